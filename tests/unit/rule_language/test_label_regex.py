"""The regular expressions of matchers: RE2 on whole values, and small."""

import pytest

from services.rule_language.label_regex import compile_regex


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("payment-.*", "payment-service", True),
        ("payment", "payment-service", False),
        ("service", "payment-service", False),
        ("a|b", "b", True),
        ("^a$", "a", True),
        ("a", "a\n", False),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("a.c", "a\0c", True),
        (".", "é", True),
        ("(?i)É", "é", True),
        ("", "", True),
        (r"\Qa.b", "a.b", True),
    ],
)
def test_a_pattern_matches_the_whole_value(pattern: str, value: str, *, matches: bool) -> None:
    assert compile_regex(pattern)(value) is matches


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", '"(" is not a regular expression of RE2: missing ): ('),
        ("a)|(b", "unexpected )"),
        ("(?=a)", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        (r"\pL{50}", "the pattern is too large"),
        ("((a{1000}){3}){2}", "invalid repetition size"),
        (r"\pL{4}", "the pattern is too large"),
    ],
)
def test_what_is_no_pattern_or_too_large_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        compile_regex(pattern)
    assert message in str(caught.value)
