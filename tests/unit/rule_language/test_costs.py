"""What an expression may cost is bounded when it is written, and what is refused is refused with its place."""

import pytest

from services.rule_language.checking import check_condition, check_filter
from services.rule_language.costs import MAX_CONCATENATIONS, MAX_PARTS, MAX_PATTERNS
from services.rule_language.diagnostics import ExpressionError

LOOP_IN_LOOP = "attributes.exists(a, attributes.exists(b, {}))"


def one_of(parts: list[str]) -> str:
    return " || ".join(parts)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(" * 26 + "level > 3" + " ? true : level == 1)" * 26, id="choices in choices"),
        pytest.param("service in [" + ", ".join([f'"s-{n}"' for n in range(350)]) + "]", id="a long list"),
        pytest.param(one_of([f'message.matches("word {n}")' for n in range(MAX_PATTERNS)]), id="many patterns"),
        pytest.param('message.matches("a{1000}")', id="a long repetition"),
        pytest.param(r'message.matches(r"\pL{8}")', id="letters of all languages"),
        pytest.param(r'message.matches(r"\Q(a\E")', id="a closed quotation"),
        pytest.param(one_of(['message == "a" + service + "b" + host + "c"']), id="joined texts"),
        pytest.param(LOOP_IN_LOOP.format("attributes[a] == attributes[b] && a != b"), id="a loop in a loop"),
        pytest.param('attributes.exists(name, name.contains("feature."))', id="a loop that searches"),
        pytest.param('attributes.exists(name, name.matches("(?i)^x-[a-z]+$|time.?out"))', id="a loop that matches"),
    ],
)
def test_what_people_write_is_allowed(text: str) -> None:
    check_filter(text)


@pytest.mark.parametrize(
    ("text", "column", "description"),
    [
        pytest.param(f"level in [{'1,' * MAX_PARTS}1]", 2005, "has more than 1000 parts", id="parts"),
        pytest.param(
            "message == host" + " + host" * (MAX_CONCATENATIONS + 1),
            17,
            "concatenates strings with + more than 4",
            id="joins",
        ),
        pytest.param(
            one_of(['host.matches("a")'] * (MAX_PATTERNS + 1)), 32 * 21 + 14, "more than 32 patterns", id="patterns"
        ),
        pytest.param(r'host.matches(r"\pL{1000}")', 14, "this pattern is too large", id="larger than RE2 takes"),
        pytest.param(r'host.matches(r"\pL{200}")', 14, "this pattern is too large", id="larger than is wise"),
        pytest.param(
            one_of([rf'host.matches(r"\pL{{12}}{n}")' for n in range(10)]), 14, "are together too large", id="together"
        ),
        pytest.param(
            r'host == "a" && attributes.all(a, a.matches(r"\pL{2}"))', 44, "pattern is too large", id="in a loop"
        ),
        pytest.param(
            f'attributes.all(a, a.matches("{"x" * 257}"))', 29, "pattern is too large", id="a long one in a loop"
        ),
        pytest.param(r'host.matches(r"\Qab")', 14, r"must close \Q with \E", id="an open quotation"),
        pytest.param('host.matches("a)") || host.matches("(b")', 14, "RE2: unexpected )", id="patterns that fit"),
        pytest.param(
            f"level > 1 && {LOOP_IN_LOOP.format('attributes.exists(c, a == b && b == c)')}",
            31,
            "takes more than 20000 steps for one event",
            id="loops in loops",
        ),
        pytest.param(LOOP_IN_LOOP.format('attributes[a].contains("x")'), 18, "more than 20000 steps", id="searches"),
        pytest.param(LOOP_IN_LOOP.format('(a + b) == "x"'), 18, "more than 20000 steps", id="joins in loops"),
        pytest.param(f"[{'1,' * 90}1].all(a, [{'1,' * 90}1].all(b, a == b))", 188, "20000 steps", id="lists"),
    ],
)
def test_what_would_cost_too_much_is_refused_with_its_place(text: str, column: int, description: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check_filter(text)
    assert (caught.value.line, caught.value.column) == (1, column)
    assert description in caught.value.description


def test_conditions_are_bounded_likewise() -> None:
    with pytest.raises(ExpressionError, match="more than 20000 steps"):
        check_condition(f"[{'1,' * 90}1].all(a, [{'1,' * 90}1].all(b, a == b))")


def test_patterns_are_measured_before_any_of_them_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr("services.rule_language.costs.regex_error", compiled.append)
    with pytest.raises(ExpressionError, match="too large"):
        check_filter(one_of([rf'host.matches(r"\pL{{300}}{n}")' for n in range(MAX_PATTERNS)]))
    assert compiled == []
