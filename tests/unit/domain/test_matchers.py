"""Matchers: Alertmanager's syntax, and laws against a naive oracle."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.matchers import (
    MAX_LABEL_NAME,
    MAX_MATCHER_VALUE,
    MAX_MATCHERS,
    MAX_TEXT,
    LabelMatcher,
    MatcherError,
    MatchOperator,
    all_match,
    format_matchers,
    parse_matchers,
)


def python_regex(pattern: str) -> Callable[[str], bool]:
    """Stand in for the library: the domain knows none."""
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no pattern: {error}") from None
    return lambda value: regex.fullmatch(value) is not None


def parsed(text: str) -> list[tuple[str, str, str]]:
    return [(each.name, each.operator.value, each.value) for each in parse_matchers(text, python_regex)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n", []),
        ("{}", []),
        ("{ }", []),
        ("foo=bar", [("foo", "=", "bar")]),
        ('foo="bar"', [("foo", "=", "bar")]),
        ('{foo!="bar",}', [("foo", "!=", "bar")]),
        ("foo=bar,", [("foo", "=", "bar")]),
        (' { foo =~ "b.*" , \n bar !~ "[a-z]{2}" } ', [("foo", "=~", "b.*"), ("bar", "!~", "[a-z]{2}")]),
        ("foo=~b.*|c+", [("foo", "=~", "b.*|c+")]),
        ('"attributes.user tier"=""', [("attributes.user tier", "=", "")]),
        ("Zürich=🙂", [("Zürich", "=", "🙂")]),
        (r'a="\"\\\a\b\f\n\r\t\v"', [("a", "=", '"\\\a\b\f\n\r\t\v')]),
        (r'a="\x41\101\u00e9\U0001f642\xc3\xa9"', [("a", "=", "AAé🙂é")]),
        ('a="{},=!~\'`"', [("a", "=", "{},=!~'`")]),
    ],
)
def test_texts_are_read(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", 'line 1, column 2: found the end of the text, expected a label\'s name or "}"'),
        ("{foo=bar", 'line 1, column 9: found the end of the text, expected a comma or "}"'),
        ("foo=bar}", 'line 1, column 8: found "}", expected a comma or the end of the text'),
        ("{foo=bar} x", 'line 1, column 11: found "x", expected the end of the text'),
        ("foo=bar,,", 'line 1, column 9: found ",", expected a label\'s name or the end of the text'),
        ("foo", "line 1, column 4: found the end of the text, expected one of =, !=, =~ and !~"),
        ("foo==bar", 'line 1, column 5: found "=", expected a value, in quotes'),
        ("foo~bar", 'line 1, column 4: found "~", expected one of =, !=, =~ and !~'),
        ("foo=\n  'bar'", 'line 2, column 3: found "\'", expected a value, in quotes'),
        ('foo="bar', "line 1, column 5: found a quote that is not closed, expected a value"),
        ("=bar", 'line 1, column 1: found "=", expected a label\'s name'),
        ('""=bar', "line 1, column 1: the label's name is empty"),
        ("a=b,c=~(", "line 1, column 5: no pattern"),
        ('a="\\q"', 'line 1, column 4: found "\\q", expected an escape'),
        ('a="x\ny"', "line 1, column 5: found a line break in quotes, expected \\n"),
        ('a="\\ud800"', "line 1, column 4: \\ud800 is no character"),
        ('a="\\U00110000"', "line 1, column 4: \\U00110000 is no character"),
        ('a="\\xff"', "line 1, column 3: the escapes make no text in UTF-8"),
        ("a=\ud800", "line 1, column 3: found half of a character"),
        (f"a={'b ' * 99}", 'line 1, column 5: found "b"'),
        ("a=b " + "c" * 50, f'line 1, column 5: found "{"c" * 40}…"'),
        ("a=b," * (MAX_MATCHERS + 1), f"line 1, column {4 * MAX_MATCHERS + 1}: more than {MAX_MATCHERS} matchers"),
        (
            "a" * (MAX_LABEL_NAME + 1) + "=b",
            f"the label's name has {MAX_LABEL_NAME + 1} characters, at most {MAX_LABEL_NAME}",
        ),
        ("a=" + "b" * (MAX_MATCHER_VALUE + 1), f"the label's value has {MAX_MATCHER_VALUE + 1} characters"),
        (" " * MAX_TEXT + " ", f"longer than {MAX_TEXT} characters"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(MatcherError) as caught:
        parse_matchers(text, python_regex)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a=b", True),
        ("a=c", False),
        ("a!=b", False),
        ("a!=c", True),
        ("a=~b|c", True),
        ("bc=~b", False),
        ("long=~on", False),
        ("long!~on", True),
        ('none=""', True),
        ('none!=""', False),
        ("none=~.*", True),
        ("none!~.+", True),
        ("a=b, long=x", False),
        ("", True),
    ],
)
def test_a_missing_label_is_the_empty_text_and_expressions_match_whole_values(text: str, *, holds: bool) -> None:
    assert all_match(parse_matchers(text, python_regex), {"a": "b", "long": "long"}) is holds


def test_what_cannot_be_printed_is_written_as_escapes() -> None:
    matcher = LabelMatcher.of('a "b"', MatchOperator.EQUAL, "\x00\n\u2028\U000e0001 é", python_regex)
    assert str(matcher) == r'"a \"b\""="\u0000\n\u2028\U000e0001 é"'
    assert str(LabelMatcher.of("a", MatchOperator.NOT_REGEX, "x{2}", python_regex)) == 'a!~"x{2}"'


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_NAMES = _TEXTS.filter(bool)
_LITERALS = st.tuples(_NAMES, st.sampled_from([MatchOperator.EQUAL, MatchOperator.NOT_EQUAL]), _TEXTS)
_PATTERNS = st.tuples(
    _NAMES,
    st.sampled_from([MatchOperator.REGEX, MatchOperator.NOT_REGEX]),
    st.sampled_from(["", ".*", ".+", "a|b", "[^x]*", r"\d+", "(?i)é.?"]),
)
_MATCHERS = st.lists(st.one_of(_LITERALS, _PATTERNS).map(lambda each: LabelMatcher.of(*each, python_regex)), max_size=5)


@given(_MATCHERS)
def test_law_a_formatted_list_parses_back_to_itself(matchers: list[LabelMatcher]) -> None:
    text = format_matchers(matchers)
    assert parse_matchers(text, python_regex) == tuple(matchers)
    assert parse_matchers(f"{{{text}}}", python_regex) == tuple(matchers)


@given(st.one_of(st.text(), st.text(st.sampled_from("ab=!~{},\"\\x41u'` \n"))))
def test_law_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    error = None
    try:
        matchers = parse_matchers(text, python_regex)
    except MatcherError as refused:
        error = refused
    if error is None:
        assert parse_matchers(format_matchers(matchers), python_regex) == matchers
    else:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1


@given(_MATCHERS, st.dictionaries(_NAMES, _TEXTS, max_size=3), st.data())
def test_law_matching_equals_a_naive_reading(
    matchers: list[LabelMatcher], labels: dict[str, str], data: st.DataObject
) -> None:
    for matcher in matchers:
        labels |= {matcher.name: data.draw(st.sampled_from(["", "a", "42", matcher.value]))}

    def holds(matcher: LabelMatcher) -> bool:
        value = labels.get(matcher.name, "")
        match matcher.operator.value:
            case "=":
                return value == matcher.value
            case "!=":
                return value != matcher.value
            case "=~":
                return re.fullmatch(matcher.value, value) is not None
            case _:
                return re.fullmatch(matcher.value, value) is None

    assert all_match(matchers, labels) == all(map(holds, matchers))
