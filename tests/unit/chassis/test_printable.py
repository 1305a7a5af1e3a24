import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.printable import printable, printable_json, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Genève 東京 🔥 5\u00a0000", "Genève 東京 🔥 5\u00a0000", id="any script"),
        pytest.param("\x1b[2J\x1b[8m", r"\x1b[2J\x1b[8m", id="C0"),
        pytest.param("\x7f\x9b31m", r"\x7f\x9b31m", id="DEL and C1"),
        pytest.param("\u202egnp\u2066", r"\u202egnp\u2066", id="directions"),
        pytest.param("a\u2028b\u2029", r"a\u2028b\u2029", id="separators"),
        pytest.param("\u200b\u200d\ufeff\u3164\u115f", r"\u200b\u200d\ufeff\u3164\u115f", id="without width"),
        pytest.param("a\r\nb\tc", r"a\r\nb\tc", id="breaks"),
        pytest.param("\U000e0041", r"\U000e0041", id="a tag"),
        pytest.param("\ud800", r"\ud800", id="half a character"),
    ],
)
def test_control_and_invisible_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_breaks_stay_where_they_are_wanted() -> None:
    assert printable_lines("a\nb\r\x1b") == "a\nb\\r\\x1b"


@given(st.text())
def test_no_unsafe_character_is_left(text: str) -> None:
    assert all(char.isprintable() or (char.isspace() and char > "\x9f") for char in printable(text))
    assert printable(printable(text)) == printable(text)


def test_json_escapes_unsafe_characters_only() -> None:
    assert printable_json({"ä": "\x1b\x7f\x9b\u202e\u3164\U000e0001\u00a0🔥"}) == (
        r'{"ä": "\u001b\u007f\u009b\u202e\u3164\udb40\udc01\u00a0🔥"}'
    )


@given(st.dictionaries(st.text(), st.lists(st.text() | st.integers(), max_size=3), max_size=3))
def test_json_stays_the_same_data(value: object) -> None:
    for indent in (None, 2):
        text = printable_json(value, indent=indent)
        assert json.loads(text) == value
        assert all(char.isprintable() or char == "\n" for char in text)
