"""What the PostgreSQL driver's errors mean: one classification for all services.

The question behind it is who is to blame. Only an error about the values themselves (DATA) says something about the
record or request at hand: the same values will be refused again. Everything else is about the server, the session, or
others who use it, and the same work may succeed later, however long that takes. So what is not known here is never
taken for the record's fault.
"""

from enum import StrEnum

import asyncpg

from services.chassis.failures import Failure, StoreConflict, StoreRefused, StoreUnavailable

__all__ = ["DRIVER_ERRORS", "Meaning", "failure_of", "meaning_of", "name_of"]

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Meaning(StrEnum):
    """What went wrong."""

    SESSION = "SESSION"
    """The connection or the server behind it is gone, lets nobody in, or takes no writes any more."""
    CONFLICT = "CONFLICT"
    """Two transactions met, and this one gave way."""
    SERVER = "SERVER"
    """The server cannot do it now: a full disk, too many connections, a cancelled query."""
    STATEMENT = "STATEMENT"
    """The statement does not fit the schema or the rights: a missing table, a wrong query of ours."""
    DATA = "DATA"
    """The values are refused: a broken constraint, an encoding, a number out of range."""


# By SQLSTATE, and by its first two characters where it is not named itself.
_BY_STATE = {
    "25006": Meaning.SESSION,  # read-only: this server was primary before a switchover
    "25P03": Meaning.SESSION,  # idle in a transaction for too long
    "57P01": Meaning.SESSION,
    "57P02": Meaning.SESSION,
    "57P03": Meaning.SESSION,
    "57P05": Meaning.SESSION,
    "55P03": Meaning.CONFLICT,  # a lock was not to be had
    "54000": Meaning.DATA,  # among others an index entry that is too long
}
_BY_CLASS = {
    "08": Meaning.SESSION,
    "28": Meaning.SESSION,
    "3D": Meaning.SESSION,
    "40": Meaning.CONFLICT,
    "22": Meaning.DATA,
    "23": Meaning.DATA,
    "0A": Meaning.STATEMENT,
    "26": Meaning.STATEMENT,
    "3F": Meaning.STATEMENT,
    "42": Meaning.STATEMENT,
}
# In these words the driver says that a connection is gone; with others, that it was called wrongly.
_GONE = ("closed", "closing", "released")


def meaning_of(error: BaseException) -> Meaning:
    """Classify an error of the driver."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or Meaning.SERVER
    if isinstance(error, asyncpg.InterfaceError):
        if isinstance(error, ValueError):
            # An argument that the driver cannot put into the protocol's form.
            return Meaning.DATA
        return Meaning.SESSION if any(word in str(error) for word in _GONE) else Meaning.STATEMENT
    # The operating system's errors, time-outs, and what is said of a connection whose end was seen, but not yet
    # dealt with, when it was used.
    return Meaning.SESSION


def failure_of(error: BaseException) -> Failure:
    """Return what callers are told: StoreConflict and StoreUnavailable are worth another try, StoreRefused is not."""
    match meaning_of(error):
        case Meaning.CONFLICT:
            return StoreConflict("two changes met; try again")
        case Meaning.DATA:
            return StoreRefused("the database refuses these values")
        case Meaning.SESSION:
            return StoreUnavailable("the database does not answer")
        case _:
            return StoreUnavailable("the database cannot do this now")


def name_of(error: BaseException) -> str:
    """Return a name for logs; the error's text may hold values."""
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__
