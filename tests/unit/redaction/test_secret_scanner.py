"""Which texts are proposed: all in which RE2 finds a pattern."""

import pyarrow as pa
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from services.redaction.presets import SecretPattern
from services.redaction.secret_scanner import SecretScanner, compiles

REGEXES = ("ab+", r"\bx", "c$", "^d", "a\\nb", "[^a]{3}", "é", "(?i)k.", "[0-9]{20,30}")


def a_scanner(*regexes: str) -> SecretScanner:
    return SecretScanner([SecretPattern(name="p", regex=regex) for regex in regexes])


def test_no_texts_are_no_work() -> None:
    assert a_scanner("a").scan(pa.array([], pa.string())) == {}


def test_patterns_are_proposed_text_by_text() -> None:
    texts = pa.array(["b", "", "abab", "xb\nb", "\0"])
    assert a_scanner("a", "b$", "c").scan(texts) == {0: {1}, 2: {0, 1}, 3: {1}}


def test_nothing_reaches_from_one_text_into_the_next() -> None:
    assert a_scanner("ab", "^b", "a\\nb").scan(pa.array(["a", "xb", "a", "a\nb"])) == {3: {2}}


def test_the_end_of_a_text_is_found_before_an_empty_one_too() -> None:
    assert a_scanner("ab+", "c$").scan(pa.array(["1111", "[redacted:p0][redacted:p0]c", ""])) == {1: {1}}


def test_after_very_many_matches_every_text_is_proposed() -> None:
    texts = pa.array(["b", "a", "a" * 5000, "b", ""])
    assert a_scanner("a", "b").scan(texts) == {0: {1}, 1: {0}} | {number: {0, 1} for number in (2, 3, 4)}


def test_a_pattern_that_is_too_large_for_hyperscan_is_known() -> None:
    assert compiles("a{1,20}b")
    assert not compiles(r"(?:\b[ab]\b){16}" * 40)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("abcdxk \n\0é1", max_size=8) | st.text("01", min_size=18, max_size=40), max_size=8),
    st.sets(st.sampled_from(REGEXES), min_size=1),
)
def test_no_match_is_missed(texts: list[str], chosen: set[str]) -> None:
    regexes = sorted(chosen)
    proposed = a_scanner(*regexes).scan(pa.array(texts, pa.string()))
    for number, text in enumerate(texts):
        found = {index for index, regex in enumerate(regexes) if re2.search(regex, text)}
        assert found <= proposed.get(number, frozenset())
