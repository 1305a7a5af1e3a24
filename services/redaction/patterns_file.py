"""Reads the patterns of one's own: a name and a regular expression in each line."""

import re
from typing import Final

import re2

from services.domain.hyperscan_patterns import positions
from services.domain.regex import may_be_empty
from services.domain.regex_syntax import UnsupportedError, parse_regex
from services.redaction.presets import SECRET_PRESETS, SecretPattern
from services.redaction.secret_scanner import compiles, proposing_regex

MAX_SECRET_PATTERNS: Final = 100
_MAX_REGEX: Final = 1000
# Characters of a pattern, those that it repeats counted as often: what compiling it costs.
_MAX_POSITIONS: Final = 2000
_NAME: Final = re.compile("[a-z][a-z0-9_-]{0,31}")


class InvalidPatternsError(ValueError):
    """A file of patterns cannot be used; `problems` lists everything that is wrong, by the number of its line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_patterns(text: str) -> tuple[SecretPattern, ...]:
    """Return the patterns of a file: lines of `name: regex`, empty ones, and comments that begin with #.

    Raises InvalidPatternsError.
    """
    problems: list[str] = []
    found: dict[str, SecretPattern] = {}
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    for number, line in lines:
        name, separator, regex = (part.strip() for part in line.partition(":"))
        problem = _name_problem(name, found) if separator else 'expected "name: regular expression"'
        if problem := problem or _regex_problem(regex):
            problems.append(f"line {number}: {problem}")
        found[name] = SecretPattern(name=name, regex=regex)
    if len(lines) > MAX_SECRET_PATTERNS:
        problems = [
            f"line {lines[MAX_SECRET_PATTERNS][0]}: expected at most {MAX_SECRET_PATTERNS} patterns, found {len(lines)}"
        ]
    if not lines:
        problems.append("line 1: expected at least one pattern, found none")
    if not problems and (problem := _re2_problem("|".join(f"(?:{each.regex})" for each in found.values()))):
        problems.append(f"all lines together: {problem}")
    if problems:
        raise InvalidPatternsError(problems)
    return tuple(found.values())


def _name_problem(name: str, found: dict[str, SecretPattern]) -> str:
    if not _NAME.fullmatch(name):
        return "name: expected 1 to 32 of a-z, 0-9, _ and -, a letter first"
    if name in SECRET_PRESETS:
        return f'name: "{name}" is the name of a preset; expected another one'
    return f'name: "{name}" stands in a line before; join the two with |' if name in found else ""


def _regex_problem(regex: str) -> str:
    if not 1 <= len(regex) <= _MAX_REGEX:
        return f"expected a regular expression of 1 to {_MAX_REGEX} characters, found {len(regex)}"
    if problem := _re2_problem(regex):
        return f"not a regular expression of RE2: {problem}"
    try:
        tree = parse_regex(regex)
    except UnsupportedError as error:
        return f"cannot be searched for in all events at once: {error}; write it in another way"
    if may_be_empty(tree) or may_be_empty(proposing_regex(regex)):
        return "expected a regular expression that names some characters, found one that matches any text"
    if positions(tree) > _MAX_POSITIONS or not compiles(regex):
        return f"too large: expected at most {_MAX_POSITIONS} characters with all their repetitions, fewer in loops"
    return ""


def _re2_problem(regex: str) -> str:
    options = re2.Options()
    options.log_errors, options.never_capture = False, True
    try:
        re2.compile(regex.encode(), options)
    except re2.error as error:
        reason: str = error.args[0].decode("utf-8", "replace")
        return reason
    return ""
