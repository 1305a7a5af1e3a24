"""What is said of values and names that are not what is expected."""

import pytest

from services.domain.found_values import expected, unknown_name


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (None, "nothing"),
        (True, "true"),
        ({}, "a mapping"),
        ([], "a list"),
        ("x", '"x"'),
        ("x" * 61, f'"{"x" * 60}…"'),
        (5, "5"),
        (10**80, "1" + "0" * 59),
    ],
)
def test_what_was_found_is_shown_shortly(found: object, shown: str) -> None:
    assert expected("a name", found) == f"expected a name, found {shown}"


def test_of_an_unknown_name_the_nearest_is_named_or_else_those_that_are_known() -> None:
    assert unknown_name("naem", ["name", "type"]) == 'unknown field; did you mean "name"?'
    assert unknown_name("colour", ["name", "type"]) == "unknown field; expected one of name, type"
    assert unknown_name("colour", ["group_by", "groupBy"], ["groupBy"]) == "unknown field; expected one of groupBy"
