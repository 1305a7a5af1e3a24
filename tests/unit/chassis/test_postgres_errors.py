"""Which errors of PostgreSQL are transient, and which are refusals of the values."""

import socket
import ssl

import asyncpg
import pytest
from asyncpg.exceptions._base import DataError as BadArgument

from services.chassis.failures import StoreConflict, StoreRefused, StoreUnavailable, is_transient
from services.chassis.postgres_errors import ErrorKind, error_kind, error_name, failure_of, words_of_postgres_error


def error(state: str) -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": "value 'secret' of a row"})


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ErrorKind.SESSION),
        ("25006", ErrorKind.SESSION),
        ("25P03", ErrorKind.SESSION),
        ("28P01", ErrorKind.SESSION),
        ("3D000", ErrorKind.SESSION),
        ("57P01", ErrorKind.SESSION),
        ("57P03", ErrorKind.SESSION),
        ("40001", ErrorKind.CONFLICT),
        ("40P01", ErrorKind.CONFLICT),
        ("55P03", ErrorKind.CONFLICT),
        ("53100", ErrorKind.SERVER),
        ("53200", ErrorKind.SERVER),
        ("53300", ErrorKind.SERVER),
        ("57014", ErrorKind.SERVER),
        ("58030", ErrorKind.SERVER),
        ("XX000", ErrorKind.SERVER),
        ("P0001", ErrorKind.SERVER),
        ("ZZ999", ErrorKind.SERVER),
        ("42P01", ErrorKind.STATEMENT),
        ("42501", ErrorKind.STATEMENT),
        ("0A000", ErrorKind.STATEMENT),
        ("22003", ErrorKind.DATA),
        ("22021", ErrorKind.DATA),
        ("23505", ErrorKind.DATA),
        ("23514", ErrorKind.DATA),
        ("54000", ErrorKind.DATA),
    ],
)
def test_only_errors_about_the_values_are_refusals(state: str, kind: ErrorKind) -> None:
    failure = failure_of(error(state))
    assert error_kind(error(state)) is kind
    assert is_transient(failure) is (kind is not ErrorKind.DATA)
    assert "secret" not in str(failure)
    assert error_name(error(state)).endswith(state)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ConnectionResetError(), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
        (asyncpg.InternalClientError("got result for unknown protocol state 3"), StoreUnavailable),
        (asyncpg.InterfaceError("connection is closed"), StoreUnavailable),
        (asyncpg.InterfaceError("the server expects 1 argument for this query, 2 were passed"), StoreUnavailable),
        (BadArgument("invalid input for query argument $1: value out of int32 range"), StoreRefused),
        (asyncpg.DeadlockDetectedError("deadlock"), StoreConflict),
    ],
)
def test_errors_of_the_driver_itself_are_classified(raised: Exception, expected: type[Exception]) -> None:
    assert type(failure_of(raised)) is expected


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (TimeoutError(), "does not answer in time"),
        (ConnectionRefusedError(), "nothing listens at its address"),
        (socket.gaierror(), "its host name is not found"),
        (ssl.SSLCertVerificationError(), "its certificate is not trusted"),
        (ssl.SSLError(), "TLS with it fails"),
        (ConnectionResetError(), "the connection was closed"),
        (OSError(), "is not reached"),
        (error("28P01"), "refuses the login"),
        (error("57P03"), "is starting or stopping"),
        (error("57P01"), "has ended the session"),
        (error("25006"), "takes no writes"),
        (error("53100"), "cannot do this now (SQLSTATE 53100)"),
        (asyncpg.TargetServerAttributeNotMatched("secret"), "no server takes writes"),
        (asyncpg.InterfaceError("secret"), "the connection was closed"),
    ],
)
def test_health_says_in_words_why_the_database_is_down(raised: Exception, words: str) -> None:
    assert words_of_postgres_error(raised) == words
