"""Which of PostgreSQL's errors are worth another try, and which are the fault of what was written."""

import asyncpg
import pytest
from asyncpg.exceptions._base import DataError as BadArgument

from services.chassis.database_errors import Meaning, failure_of, meaning_of, name_of
from services.chassis.failures import StoreConflict, StoreRefused, StoreUnavailable, is_transient


def error(state: str) -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": "value 'secret' of a row"})


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("08006", Meaning.SESSION),
        ("25006", Meaning.SESSION),
        ("25P03", Meaning.SESSION),
        ("28P01", Meaning.SESSION),
        ("3D000", Meaning.SESSION),
        ("57P01", Meaning.SESSION),
        ("57P03", Meaning.SESSION),
        ("40001", Meaning.CONFLICT),
        ("40P01", Meaning.CONFLICT),
        ("55P03", Meaning.CONFLICT),
        ("53100", Meaning.SERVER),
        ("53200", Meaning.SERVER),
        ("53300", Meaning.SERVER),
        ("57014", Meaning.SERVER),
        ("58030", Meaning.SERVER),
        ("XX000", Meaning.SERVER),
        ("P0001", Meaning.SERVER),
        ("ZZ999", Meaning.SERVER),
        ("42P01", Meaning.STATEMENT),
        ("42501", Meaning.STATEMENT),
        ("0A000", Meaning.STATEMENT),
        ("22003", Meaning.DATA),
        ("22021", Meaning.DATA),
        ("23505", Meaning.DATA),
        ("23514", Meaning.DATA),
        ("54000", Meaning.DATA),
    ],
)
def test_only_what_is_about_the_values_is_refused(state: str, meaning: Meaning) -> None:
    found = failure_of(error(state))
    assert meaning_of(error(state)) is meaning
    assert is_transient(found) is (meaning is not Meaning.DATA)
    assert "secret" not in str(found)
    assert name_of(error(state)).endswith(state)


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
def test_what_the_driver_itself_says_is_classified_too(raised: Exception, expected: type[Exception]) -> None:
    assert type(failure_of(raised)) is expected
