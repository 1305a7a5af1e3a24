"""Words and numbers that are levels."""

import pytest

from cli.parsing.levels import parse_level
from services.domain.level import Level


def test_levels_are_known_in_any_case() -> None:
    assert [parse_level(word) for word in ("warning", "Err", "NOTICE", "?")] == [
        Level.WARN,
        Level.ERROR,
        Level.INFO,
        None,
    ]


@pytest.mark.parametrize(
    ("number", "level"),
    [
        ("60", Level.FATAL),
        ("50", Level.ERROR),
        ("35", Level.INFO),
        ("10", Level.TRACE),
        ("3", Level.ERROR),
        ("99", None),
        ("400", Level.ERROR),
        ("250", Level.INFO),
        ("40000", Level.ERROR),
    ],
)
def test_levels_are_known_by_the_numbers_of_pino_and_syslog(number: str, level: Level | None) -> None:
    assert parse_level(number) == level
