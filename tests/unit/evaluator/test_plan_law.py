"""Laws: rules evaluated together select what each selects alone, and no pattern is missed."""

import math
import operator
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.domain import hyperscan_patterns, regex
from services.domain.regex_syntax import UnsupportedError, parse_regex
from services.evaluator.core.match.comparisons import find_compared
from services.evaluator.core.match.events import EventColumns
from services.evaluator.core.match.plan import RulePlan
from services.evaluator.core.match.scanning import JoinedTexts, Scanner
from services.evaluator.core.match.terms import Compares, Field
from services.rule_language.checking import check_filter
from tests.unit.evaluator.expressions import batch_of, events, filters, literal, present, within_limits

_COMPARED = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_texts = st.sampled_from(["", "a", "ab", "b\na", "a\0b", "zwölf €", "timeout", "\n", "7\0"]).map(literal)
_subjects = st.sampled_from(["service", "host", "message", "trace_id", "attributes.a", 'attributes["b c"]'])
_patterns = st.sampled_from(
    [
        "a",
        "^a",
        "b$",
        "a.b",
        "[^a]b",
        r"\\s",
        r"\\x00$",
        "(?i)TIME",
        "(?s)a.b",
        "z.{2,40}€",
        "a|^b",
        "a*",
        r"\\bb",
        "$a|b",
        "a.*b",
        "(?s)a.*b",
        "(?s)a.+b$",
        r"b.*\\bzw",
        "z[^a]*€",
        "i.*m.*t",
    ]
)
# Conditions that an index answers; `filters` has mostly others.
_indexed = st.one_of(
    st.tuples(_subjects, st.sampled_from([" == ", " != "]), _texts).map("".join),
    st.tuples(_subjects, st.lists(_texts, max_size=3)).map(lambda pair: f"{pair[0]} in [{', '.join(pair[1])}]"),
    st.tuples(_subjects, st.sampled_from(["contains", "startsWith", "endsWith"]), _texts).map(
        lambda parts: f"{parts[0]}.{parts[1]}({parts[2]})"
    ),
    st.tuples(_subjects, _patterns).map(lambda pair: f'{pair[0]}.matches("{pair[1]}")'),
    st.tuples(
        st.sampled_from(["level", "status_code", "response_time"]),
        _COMPARED,
        st.sampled_from(["1", "3", "404", "500", "9223372036854775807", "-1"]),
    ).map(" ".join),
    st.tuples(st.sampled_from(["1.5", "2000.0", "0.0", "-0.0"]), _COMPARED, st.just("response_time")).map(" ".join),
    st.sampled_from(["level in [3, 5]", "status_code in []", "has(attributes.a)", 'service != "a"']),
)
_clauses = st.recursive(
    _indexed | _indexed | filters,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})")
        | inner.map(lambda one: f"!({one})")
    ),
    max_leaves=4,
)
_rules = st.lists(st.lists(_clauses, min_size=1, max_size=2), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(rules=_rules, happened=st.lists(events, min_size=1, max_size=12))
def test_rules_select_together_what_cel_selects_for_each(
    rules: list[list[str]], happened: list[dict[str, Any]]
) -> None:
    with within_limits():
        checked = {number: [check_filter(text) for text in texts] for number, texts in enumerate(rules)}
    selected = RulePlan(checked).select(EventColumns.of(batch_of(happened)))
    expected = {
        number: [
            row
            for row, event in enumerate(happened)
            if all(expression.evaluate(present(event)) is True for expression in expressions)
        ]
        for number, expressions in checked.items()
    }
    assert {number: rows.tolist() for number, rows in selected.rows.items()} == {
        number: rows for number, rows in expected.items() if rows
    }
    assert dict(selected.failed) == {}


_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_bounds = st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0, 3.0]) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    numbers=st.lists(st.none() | _bounds | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=40),
    asked=st.lists(st.tuples(st.sampled_from(list(_SIGNS)), _bounds), max_size=20),
)
def test_many_comparisons_find_what_each_finds(numbers: list[float | None], asked: list[tuple[str, float]]) -> None:
    terms = {key: Compares(Field("response_time"), sign, bound) for key, (sign, bound) in enumerate(asked)}
    found = {key: rows.tolist() for key, rows in find_compared(terms, pa.array(numbers, pa.float64()))}
    expected = {
        key: [row for row, number in enumerate(numbers) if number is not None and _SIGNS[sign](number, bound)]
        for key, (sign, bound) in enumerate(asked)
    }
    assert found == {key: rows for key, rows in expected.items() if rows}


_SETS = [".", r"\d", r"\w", r"\s", r"\S", r"\W", r"\D", "[^a]", "[a-c]", r"[^\s]", "[kés]", "[-a]", "[]a]", r"[\w-]"]
_CHARACTERS = ["a", "b", "k", "s", "K", "é", "€", " ", "-", r"\n", r"\x00", r"\x{212a}", r"\.", "1", "ab"]
_POSITIONS = ["^", "$", r"\b", r"\B", r"\A", r"\z"]
_regexes = st.recursive(
    st.sampled_from(_SETS + _CHARACTERS + _POSITIONS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda branches: f"({'|'.join(branches)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "{1,40}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.tuples(st.sampled_from(["i", "s", "is"]), inner).map(lambda pair: f"(?{pair[0]}:{pair[1]})"),
    ),
    max_leaves=6,
)
_characters = st.sampled_from("abkKsS\u212a\u017féÉ€ -1.\n\0\tAZ_]x\U0001f600\r\v")


@settings(max_examples=300, deadline=None)
@given(pattern=_regexes, texts=st.lists(st.text(_characters, max_size=8), min_size=1, max_size=20))
def test_a_pattern_is_never_missed_and_invented_only_where_it_says_so(pattern: str, texts: list[str]) -> None:
    try:
        expected = pc.match_substring_regex(pa.array(texts), pattern).to_pylist()
        trimmed = hyperscan_patterns.trim(parse_regex(pattern))
    except (pa.ArrowInvalid, UnsupportedError):
        assume(False)
    tree = hyperscan_patterns.widen(trimmed)
    assume(not regex.may_be_empty(tree))
    scanner = Scanner([tree])
    assume(not scanner.refused)
    found = set(scanner.scan(JoinedTexts.of(pa.array(texts))).texts.tolist())
    missed = {row for row, matches in enumerate(expected) if matches} - found
    assert missed == set()
    if tree == trimmed:
        invented = {row for row in found if not expected[row]}
        doubtful = {row for row, text in enumerate(texts) if "\n" in text or "\0" in text}
        assert invented <= (doubtful if hyperscan_patterns.tells_newline_from_nul(tree) else set())
