"""Regular expressions are read as RE2 reads them, and given to Hyperscan so that it finds the same."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import re2
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.domain.hyperscan_patterns import (
    pieces,
    positions,
    rarest_piece,
    tells_newline_from_nul,
    to_hyperscan,
    trim,
    widen,
)
from services.domain.regex import Regex, literal, may_be_empty
from services.domain.regex_syntax import UnsupportedError, parse_regex
from services.evaluator.core.match import confirming
from services.evaluator.core.match.confirming import Lookups, Search, confirm_lookups
from services.evaluator.core.match.scanning import JoinedTexts, Scanner

TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "abc abc",
    "A",
    "k",
    "K",
    "\u212a",
    "\u017f",
    "é",
    "a-b",
    "a]b",
    "a\nb",
    "a\0b",
    "1 22 333",
    "a.b",
    "\t\v\f\a\r",
    "aab",
    "x_y",
    "{",
    "日本",
]


def scan(scanner: Scanner, texts: JoinedTexts) -> dict[int, list[int]]:
    """Return by the number of each pattern that is found its texts."""
    proposals = scanner.scan(texts)
    found: dict[int, list[int]] = {}
    for pattern, text in zip(proposals.patterns.tolist(), proposals.texts.tolist(), strict=True):
        found.setdefault(pattern, []).append(text)
    return found


def search(tree: Regex, texts: JoinedTexts, numbers: Sequence[int]) -> list[int]:
    """Return in which of these texts the tree is found."""
    lookups = Lookups(np.zeros(len(numbers), np.int64), np.array(numbers, np.int64), texts.starts[list(numbers)])
    matches = confirm_lookups(lookups, texts, [Search(tree)], lambda _, work: work())
    return [number for number, matched in zip(numbers, matches, strict=True) if matched]


def found(tree: Regex) -> list[bool]:
    numbers = scan(Scanner([tree]), JoinedTexts.of(pa.array(TEXTS))).get(0, [])
    return [number in set(numbers) for number in range(len(TEXTS))]


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "ab|c",
        "(a|b)c",
        "(?:a)b",
        "(?P<name>a)b",
        "(?<name>a)b",
        "(?i)k",
        "(?i:S)",
        "(?i:a)b",
        "(?i)a(?-i)b",
        "(?i-s:A)b",
        "(?s)a.b",
        "(?si:A.B)+",
        "a(?i)B|C",
        "[a-c]b",
        "[^a]b",
        "[]a]b",
        "[^]a]b",
        "[-a]b",
        "[a-]b",
        r"[\d-]b|-b",
        r"[\]a-c\n]b",
        r"(?i)[\w]+ ?",
        r"(?i)\S\S",
        r"\W",
        r"\d\d+",
        r"\s\w",
        r"\D\D\D",
        r"\x61\x{62}",
        r"\t\v\f\a\r",
        r"\.",
        r"\Aa\z",
        "^a$",
        r"\bb",
        r"b\B|a\b",
        "a*b",
        "a+?b",
        "a??b",
        "a{2}b",
        "a{1,}b",
        "a{0,2}b",
        "é",
        "[日é]",
        ".本",
        r"a\nb",
        r"\x{d7ff}|\x{e000}|[^a-z]b",
    ],
)
def test_a_pattern_is_found_where_re2_finds_it(pattern: str) -> None:
    expected = pc.match_substring_regex(pa.array(TEXTS), pattern).to_pylist()
    tree = parse_regex(pattern)
    for looked_for in (tree, trim(tree), widen(tree)):
        for text, hit, wanted in zip(TEXTS, found(looked_for), expected, strict=True):
            is_doubtful = tells_newline_from_nul(tree) and ("\n" in text or "\0" in text)
            assert hit == wanted or (hit and is_doubtful), (text, looked_for)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\pL",
        r"\1",
        r"\Qa\E",
        r"\C",
        r"\_",
        r"\é",
        "(?m)^a",
        "(?U)a+",
        "(?i)é",
        "(?i)[é]",
        "[[:alpha:]]",
        "[a-c-e]",
        r"[a-\d]",
        "a**",
        "^*",
        "*",
        "a{",
        "a{b}",
        "a{1,b}",
        "a{10000}",
        "(a",
        "a)",
        "(?P<a",
        "[a",
        "\\",
        r"\x6",
        r"\xzz",
        r"\x{}",
        r"\x{110000}",
        r"\x{00000041}",
    ],
)
def test_what_may_mean_something_else_is_left_to_re2(pattern: str) -> None:
    with pytest.raises(UnsupportedError):
        parse_regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "trimmed"),
    [
        ("a.*", "a"),
        (".*a+", "a"),
        ("(?:x*)a{2,5}", "aa"),
        ("(?:ab){2}", "abab"),
        ("a(?:b|c*)|.*d", "a|d"),
        (r"\ba", r"\ba"),
        ("a*", ""),
    ],
)
def test_what_may_be_empty_is_cut_off_the_ends(pattern: str, trimmed: str) -> None:
    tree = trim(parse_regex(pattern))
    assert may_be_empty(tree) if not trimmed else found(tree) == found(parse_regex(trimmed))
    assert positions(tree) == positions(parse_regex(trimmed))


def test_a_large_repetition_has_no_limit_for_hyperscan() -> None:
    assert widen(parse_regex("(a{3,40}|b)c{17}d{2}")) == parse_regex("(a{3,}|b)c{16,}d{2}")


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("short.*a longer text", {"short": 5, "a longer text": 13}),
        (r"user=\S+ (?:failed|refused) [0-9]", {"user=": 5, r"\ (?:failed|refused)\ [0-9]": 6}),
        ("(ab.*longer)x", {"ab": 2, "longerx": 7}),
        (r"^a\d+b", {r"^a\d+b": 1}),
        ("(?i)abc.+d[xyz]", {"(?i)abc": 3, "(?i)d[xyz]": 1}),
        ("a.*(?:bcd){2}", {"a": 1, "(?:bcd){2}": 6}),
        ("a.*[0-9]?.*b", {"a": 1, "b": 1}),
        ("[0-9]?.*", {}),
    ],
)
def test_what_is_between_gaps_is_in_each_match(pattern: str, parts: dict[str, int]) -> None:
    found = pieces(parse_regex(pattern))
    assert {to_hyperscan(piece.tree): piece.fixed_length for piece in found} == {
        to_hyperscan(trim(parse_regex(part))): length for part, length in parts.items()
    }
    assert all(piece.is_all == (len(parts) == 1) for piece in found)


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        ("short.*a longer text", "a longer text"),
        (r"user=\S+ (?:failed|refused) [0-9]", r"\ (?:failed|refused)\ [0-9]"),
        ("(ab.*longer)x", "longerx"),
        (r"^a\d+b", r"^a\d+b"),
        ("(?i)abc.+d[xyz]", "(?i)abc"),
        ("a.*(?:bcd){2}", "(?:bcd){2}"),
        ("[0-9]?.*", ""),
    ],
)
def test_the_piece_with_the_longest_text_is_the_rarest(pattern: str, piece: str) -> None:
    assert to_hyperscan(rarest_piece(parse_regex(pattern))) == to_hyperscan(trim(parse_regex(piece)))


@pytest.mark.parametrize(
    ("pattern", "rest"),
    [
        ("a.*b", "b"),
        ("a.+b", ".b"),
        ("(?s)a.{2,}bc*d.*e", "(?s)..bc*d.*e"),
        ("a.*c*b$", "b$"),
        ("(a|b).*(c$|d)", "c$|d"),
        # The gap does not take all characters.
        (r"a\S*b", None),
        ("a[^x]*b", None),
        # It matters what is before.
        (r"a.*\bb", None),
        (r"a.*(?:\Bb){2}", None),
        ("a.*(?:^b|c)", None),
        # It may be empty.
        ("a.*$", None),
        ("ab", None),
    ],
)
def test_the_rest_has_to_be_somewhere_behind_the_first_piece(pattern: str, rest: str | None) -> None:
    first, *others = pieces(trim(parse_regex(pattern)))
    spelled = None if first.rest is None else to_hyperscan(first.rest)
    assert spelled == (None if rest is None else to_hyperscan(parse_regex(rest)))
    assert all(other.rest is None for other in others)


@pytest.mark.parametrize(("pattern", "tells"), [("a.b", True), (r"\s", True), ("[^a]", False), ("(ab)+$", False)])
def test_a_pattern_tells_newline_from_nul_or_not(pattern: str, tells: bool) -> None:  # noqa: FBT001
    assert tells_newline_from_nul(parse_regex(pattern)) is tells


def test_what_hyperscan_does_not_take_is_refused_alone() -> None:
    embedded = parse_regex("a$b")
    scanner = Scanner([literal("ab"), embedded])
    assert scanner.refused == {1}
    assert scan(scanner, JoinedTexts.of(pa.array(["xab", "y"]))) == {0: [0]}
    assert Scanner([embedded]).refused == {0}


def test_a_pattern_that_is_found_too_often_is_not_looked_for_again() -> None:
    texts = JoinedTexts.of(pa.array(["eee and rare", "eee"] * 200))
    scanner = Scanner([literal("e"), literal("rare")])
    assert scan(scanner, texts)[0] == list(range(400))
    assert scanner.needs_compiling
    assert scan(scanner, texts).keys() == {0, 1}
    scanner.use(scanner.compile())
    assert scanner.refused == {0}
    assert not scanner.needs_compiling
    assert scan(scanner, texts).keys() == {1}
    assert Scanner([literal("e"), literal("x")], scanner.frequent).refused == {0}
    few = Scanner([literal("e")])
    few.scan(JoinedTexts.of(pa.array(["eee"] * 9)))
    assert not few.needs_compiling


def test_a_pattern_that_was_found_too_often_is_looked_for_again_after_many_texts() -> None:
    texts = JoinedTexts.of(pa.array(["eee and rare", "eee"] * 200))
    scanner = Scanner([literal("e"), literal("rare")])
    scanner.scan(texts)
    scanner.use(scanner.compile())
    scanner.count((1 << 26) - 1)
    assert scanner.refused == {0}
    assert not scanner.needs_compiling
    scanner.count(1)
    assert scanner.needs_compiling
    scanner.use(scanner.compile())
    assert scan(scanner, texts).keys() == {0, 1}
    assert scanner.needs_compiling


def test_texts_do_not_run_into_each_other() -> None:
    texts = JoinedTexts.of(pa.array(["ab", None, "c\nab", "", "b\0", "x"]))
    assert scan(Scanner([literal("bc")]), texts) == {}
    assert scan(Scanner([literal("ab")]), texts) == {0: [0, 2]}
    assert texts.special is not None
    assert texts.special.tolist() == [False, False, True, False, True, False]
    assert JoinedTexts.of(pa.array(["a", "b"])).special is None


LINE_ENDS = ("c$", "[bc]$", "abc$", "(?:a|bc)$", "a+$", "^x", "ab")


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.sampled_from(LINE_ENDS), min_size=1, max_size=4),
    st.lists(st.text("abc1x ]", max_size=30), min_size=1, max_size=7),
)
# Hyperscan missed these where nothing, or a newline alone, came after the last of them.
@example({"(?:a|bc)$"}, ["bx", "cbaa caxb1cxba xbb] c]xa]a bbc"])
@example({"abc$", "(?:a|bc)$", "a+$"}, ["1]x1b", "c1xbxx11bb]   1 ]bb ", "b]cb ]a c xc1 ba1cbc"])
@example({"ab", "c$"}, ["x" * 26 + "c", ""])
def test_ends_of_texts_are_found_wherever_a_text_stands(patterns: set[str], texts: list[str]) -> None:
    trees = [parse_regex(pattern) for pattern in sorted(patterns)]
    joined = JoinedTexts.of(pa.array(texts, pa.string()))
    by_number = scan(Scanner(trees), joined)
    for number, pattern in enumerate(sorted(patterns)):
        expected = [row for row, text in enumerate(texts) if re2.search(pattern, text)]
        assert by_number.get(number, []) == expected
        assert search(trees[number], joined, range(len(texts))) == expected


def test_a_match_is_proposed_once_and_with_its_first_end() -> None:
    proposals = Scanner([literal("ab"), parse_regex("b+")]).scan(JoinedTexts.of(pa.array(["ab abb", "", "ab"])))
    assert proposals.patterns.tolist() == [0, 0, 1, 1]
    assert proposals.texts.tolist() == [0, 2, 0, 2]
    assert proposals.ends.tolist() == [2, 10, 2, 10]


# Where Hyperscan looks for a tree, where RE2 does, and how much is copied at a time.
LIMITS = {"hyperscan": (50, 1 << 24), "re2": (0, 1 << 24), "in small parts": (2, 20)}


@pytest.fixture(params=LIMITS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    few, size = LIMITS[request.param]
    monkeypatch.setattr(confirming, "_MAX_FEW", few)
    monkeypatch.setattr(confirming, "_MAX_BYTES", size)


@pytest.mark.usefixtures("way")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.sampled_from([*LINE_ENDS, "a.*b", "(?s)a.b", "[^a]x", "[^1]{2}$", "€.*c"]), min_size=1, max_size=5),
    st.lists(st.text("abc1x ]€\n\0", max_size=30), min_size=1, max_size=9),
    st.data(),
)
def test_each_tree_is_found_behind_a_place_where_re2_finds_it(
    patterns: set[str], texts: list[str], data: st.DataObject
) -> None:
    trees = [parse_regex(pattern) for pattern in sorted(patterns)]
    places = st.tuples(st.sampled_from(range(len(trees))), st.sampled_from(range(len(texts))), st.integers(0, 30))
    wanted = sorted(data.draw(st.lists(places, min_size=1, max_size=20)))
    joined = JoinedTexts.of(pa.array(texts, pa.string()))
    # Newlines are NUL there, and a tree takes NUL instead of newlines.
    behind = [texts[text][place:].replace("\n", "\0") for _, text, place in wanted]
    searches = np.array([number for number, _, _ in wanted])
    starts = [joined.starts[text] + len(texts[text][:place].encode()) for _, text, place in wanted]
    lookups = Lookups(searches, np.array([text for _, text, _ in wanted]), np.array(starts))
    expected = [
        bool(re2.search(to_hyperscan(trees[number]), text)) for (number, _, _), text in zip(wanted, behind, strict=True)
    ]
    searched = [Search(tree) for tree in trees]
    assert confirm_lookups(lookups, joined, searched, lambda _, work: work()).tolist() == expected


@pytest.mark.usefixtures("way")
def test_only_what_cannot_be_looked_for_is_not_found() -> None:
    joined = JoinedTexts.of(pa.array(["ab", "xb", "b", "abc", "c"]))
    searches = [Search(literal("b")), Search(parse_regex("a$b|b")), Search(literal("c"))]
    lookups = Lookups(
        np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 2, 1, 4, 3, 2, 4]), joined.starts[[0, 2, 1, 4, 3, 2, 4]]
    )

    def run(part: slice, work: Callable[[], None]) -> None:
        if lookups.searches[part.start] != 2:
            work()

    assert confirm_lookups(lookups, joined, searches, run).tolist() == [True, True, True, False, False, False, False]
    nothing = Lookups(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    assert confirm_lookups(nothing, joined, searches, run).tolist() == []
