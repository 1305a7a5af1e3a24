"""PostgreSQL reads arrays that are written as text as they were meant."""

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.postgres_arrays import array_text, bytes_array_text

pytestmark = pytest.mark.integration

# PostgreSQL stores no NUL, and UTF-8 no surrogates.
texts = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=8)
awkward = st.sampled_from(["", "NULL", "null", "{}", "a,b", 'say "x"', "\\", "\\x61", " a ", "\n", "é"])


async def test_arrays_come_back_as_they_were(database: str) -> None:
    connection = await asyncpg.connect(database)
    examples: list[tuple[list[str], list[bytes]]] = []

    @settings(max_examples=200, database=None)
    @given(st.lists(texts | awkward, max_size=5), st.lists(st.binary(max_size=8), max_size=5))
    def collect(names: list[str], values: list[bytes]) -> None:
        examples.append((names, values))

    collect()
    try:
        rows = await connection.fetch(
            "SELECT names::text[] AS names, texts::bytea[] AS texts"
            " FROM unnest($1::text[], $2::text[]) AS written (names, texts)",
            [array_text(names) for names, _ in examples],
            [bytes_array_text(values) for _, values in examples],
        )
    finally:
        await connection.close()
    assert [(row["names"], row["texts"]) for row in rows] == examples
