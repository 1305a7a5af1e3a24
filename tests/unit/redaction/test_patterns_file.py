"""The file of one's own patterns: what is read, and what is refused with the number of its line."""

import pytest

from services.ingest.core.redactor import Redactor
from services.redaction.patterns_file import MAX_SECRET_PATTERNS, InvalidPatternsError, parse_patterns
from services.redaction.presets import SECRET_PRESETS, SecretPattern


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidPatternsError) as caught:
        parse_patterns(text)
    return caught.value.problems


def test_lines_are_names_and_regular_expressions() -> None:
    text = "# of the shop\n\ncustomer-ids: \\bC[0-9]{8}\\b\r\n  session: sid=(?P<secret>[a-z:]+)  \n"
    assert parse_patterns(text) == (
        SecretPattern(name="customer-ids", regex=r"\bC[0-9]{8}\b"),
        SecretPattern(name="session", regex="sid=(?P<secret>[a-z:]+)"),
    )


def test_the_patterns_of_presets_would_be_allowed() -> None:
    for name, preset in SECRET_PRESETS.items():
        lines = (f"{name}-{number}: {each.regex}\n" for number, each in enumerate(preset.patterns))
        assert len(parse_patterns("".join(lines))) == len(preset.patterns)
        assert Redactor([name], (), max_message_bytes=100)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("abc", 'line 1: expected "name: regular expression"'),
        ("\nA: b", "line 2: name: expected 1 to 32 of a-z, 0-9, _ and -, a letter first"),
        ("emails: b", 'line 1: name: "emails" is the name of a preset; expected another one'),
        ("a: b\na: c", 'line 2: name: "a" stands in a line before; join the two with |'),
        ("a:", "line 1: expected a regular expression of 1 to 1000 characters, found 0"),
        ("a: " + "b" * 1001, "line 1: expected a regular expression of 1 to 1000 characters, found 1001"),
        ("a: b(", "line 1: not a regular expression of RE2: missing ): b("),
        ("a: (?=b)", "line 1: not a regular expression of RE2: invalid perl operator: (?="),
        (
            r"a: \pL+",
            "line 1: cannot be searched for in all events at once: escape p; write it in another way",
        ),
        (
            "a: b*",
            "line 1: expected a regular expression that names some characters, found one that matches any text",
        ),
        (
            r"a: \b",
            "line 1: expected a regular expression that names some characters, found one that matches any text",
        ),
        (
            "a: (?:bcd){1000}",
            "line 1: too large: expected at most 2000 characters with all their repetitions, fewer in loops",
        ),
        (
            "a: " + r"(?:\b[ab]\b){16}" * 40,
            "line 1: too large: expected at most 2000 characters with all their repetitions, fewer in loops",
        ),
        ("# nothing\n", "line 1: expected at least one pattern, found none"),
        ("".join(f"a{number}: b\n" for number in range(MAX_SECRET_PATTERNS + 1)), "line 101: expected at most 100"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, problem: str) -> None:
    (found,) = problems_of(text)
    assert found.startswith(problem)


def test_all_problems_are_named_at_once() -> None:
    assert [problem[:6] for problem in problems_of("a: b\nc\nd: (\n")] == ["line 2", "line 3"]


def test_all_patterns_together_have_a_limit_too() -> None:
    (problem,) = problems_of("".join(f"a{number}: x{number}[^é]{{1000}}\n" for number in range(MAX_SECRET_PATTERNS)))
    assert problem == "all lines together: pattern too large - compile failed"
