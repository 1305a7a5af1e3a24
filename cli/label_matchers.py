"""Matchers as people type them and read them; what they type is checked before the server is asked."""

from collections.abc import Mapping

import typer

from services.domain.matchers import LabelMatcher, MatcherError, MatchOperator, format_matchers, parse_matchers
from services.rule_language.label_regex import compile_regex


def check_matchers(text: str) -> str:
    """Return a text of matchers as it is. Raises typer.BadParameter, which says where it is wrong."""
    try:
        parse_matchers(text, compile_regex)
    except MatcherError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def format_labels(labels: Mapping[str, str]) -> str:
    """Return labels as the matchers that hold of them, in the form in which they can be typed."""
    return format_matchers(LabelMatcher(name, MatchOperator.EQUAL, value) for name, value in sorted(labels.items()))
