"""Classify the errors of the PostgreSQL driver, in the same way for all services.

The question is whether the same work can succeed later. Only an error about the values (DATA) is the fault of the
record or request: the database will refuse the same values again. Every other error is about the server, the session
or other sessions, and the same work may succeed later, however long that takes. An error that is not listed here is
therefore never treated as the record's fault.
"""

from enum import StrEnum

import asyncpg

from services.chassis.failures import Failure, StoreConflict, StoreRefused, StoreUnavailable
from services.chassis.health import words_of_connection_error

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class ErrorKind(StrEnum):
    """Where the cause of an error is."""

    SESSION = "SESSION"
    """The connection or the server behind it is gone, refuses connections, or is read-only."""
    CONFLICT = "CONFLICT"
    """Two transactions met, and this one was aborted."""
    SERVER = "SERVER"
    """The server cannot do it now: a full disk, too many connections, a cancelled query."""
    STATEMENT = "STATEMENT"
    """The statement does not fit the schema or the rights: a missing table, a wrong query of ours."""
    DATA = "DATA"
    """The values are refused: a constraint, an encoding, a number out of range."""


# By SQLSTATE, and by its first two characters where it is not named itself.
_BY_STATE = {
    "25006": ErrorKind.SESSION,  # read-only: this server was primary before a switchover
    "25P03": ErrorKind.SESSION,  # idle in a transaction for too long
    "57P01": ErrorKind.SESSION,
    "57P02": ErrorKind.SESSION,
    "57P03": ErrorKind.SESSION,
    "57P05": ErrorKind.SESSION,
    "55P03": ErrorKind.CONFLICT,  # a lock was not available
    "54000": ErrorKind.DATA,  # among others an index entry that is too long
}
_BY_CLASS = {
    "08": ErrorKind.SESSION,
    "28": ErrorKind.SESSION,
    "3D": ErrorKind.SESSION,
    "40": ErrorKind.CONFLICT,
    "22": ErrorKind.DATA,
    "23": ErrorKind.DATA,
    "0A": ErrorKind.STATEMENT,
    "26": ErrorKind.STATEMENT,
    "3F": ErrorKind.STATEMENT,
    "42": ErrorKind.STATEMENT,
}
# What health says of a state, or of its first two characters where it is not named itself.
_WORDS = {
    "25006": "takes no writes",
    "53300": "has too many connections",
    "57P03": "is starting or stopping",
    "08": "the connection was closed",
    "28": "refuses the login",
    "3D": "has no such database",
    "57": "has ended the session",
}
# With these words the driver reports a closed connection; with others, that it was called wrongly.
_CLOSED_WORDS = ("closed", "closing", "released")


def error_kind(error: BaseException) -> ErrorKind:
    """Classify an error of the driver."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or ErrorKind.SERVER
    if isinstance(error, asyncpg.InterfaceError):
        if isinstance(error, ValueError):
            # An argument that the driver cannot encode.
            return ErrorKind.DATA
        return ErrorKind.SESSION if any(word in str(error) for word in _CLOSED_WORDS) else ErrorKind.STATEMENT
    # Errors of the operating system, timeouts, and the use of a connection whose end was seen but not yet handled.
    return ErrorKind.SESSION


def failure_of(error: BaseException) -> Failure:
    """Return the Failure for callers: StoreConflict and StoreUnavailable are worth another try, StoreRefused is not."""
    match error_kind(error):
        case ErrorKind.CONFLICT:
            return StoreConflict("two changes met; try again")
        case ErrorKind.DATA:
            return StoreRefused("the database refuses these values")
        case ErrorKind.SESSION:
            return StoreUnavailable("the database does not answer")
        case _:
            return StoreUnavailable("the database cannot do this now")


def words_of_postgres_error(error: BaseException) -> str:
    """Return in words why the database is down; the error's message may contain values."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        return _WORDS.get(state) or _WORDS.get(state[:2]) or f"cannot do this now (SQLSTATE {state})"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "no server takes writes"
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return "the connection was closed"
    return words_of_connection_error(error)


def error_name(error: BaseException) -> str:
    """Return a name for logs; the error's message may contain values."""
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__
