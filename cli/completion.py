"""Completion in shells: names of rules and descriptions of alerts come from elsewhere, and a shell takes them as text.

The library's own classes let zsh run commands that stand in a description after a backslash, and give bash names with
spaces as several words. It has no public way to replace them.
"""

import os
import re

from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete, FishComplete, ZshComplete

_PLAIN = re.compile(r"[A-Za-z0-9_./,@%+-]|[^\x00-\x7f]")
# What bash replaces, or ends, inside of quotes.
_SPECIAL = {'"': set('"$`\\!'), "'": {"'"}}


def use_safe_completion() -> None:
    """Complete with the classes below, instead of the library's."""
    add_completion_class(SafeBashComplete, "bash")
    add_completion_class(SafeZshComplete, "zsh")
    add_completion_class(SafeFishComplete, "fish")


class SafeBashComplete(BashComplete):
    """Gives each value as bash reads it: escaped, or as it is inside of quotes."""

    def complete(self) -> str:
        """Return a value a line."""
        args, incomplete = self.get_completion_args()
        quote = open_quote(os.environ["COMP_WORDS"])
        values = [quote_for_bash(item.value, quote) for item in self.get_completions(args, incomplete)]
        return "\n".join(value for value in values if value)


class SafeZshComplete(ZshComplete):
    """Gives values and descriptions as two arrays, in which every special character is a number."""

    def complete(self) -> str:
        """Return what zsh evaluates: the values with their descriptions, or files where there are none."""
        args, incomplete = self.get_completion_args()
        items = self.get_completions(args, incomplete)
        if not items:
            return "_files"
        values = " ".join(quote_for_zsh(item.value) for item in items)
        width = max(len(item.value) for item in items)
        lines = " ".join(quote_for_zsh(_describe(item, width)) for item in items)
        # Values without descriptions stand side by side.
        as_lines = "-l " if any(item.help for item in items) else ""
        return f"local -a values lines; values=({values}); lines=({lines}); compadd {as_lines}-d lines -a values"


class SafeFishComplete(FishComplete):
    """Gives descriptions as they are, not as the library's markup."""

    def format_completion(self, item: CompletionItem) -> str:
        """Return the value, and its description after a tab."""
        return f"{item.value}\t{_one_line(item.help)}" if item.help else f"{item.value}"


def open_quote(text: str) -> str:
    """Return the quote that is not closed at the end of a command line; an empty string when all are."""
    quote, is_escaped = "", False
    for character in text:
        if is_escaped:
            is_escaped = False
        elif character == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in _SPECIAL:
            quote = character
    return quote


def quote_for_bash(value: str, quote: str) -> str:
    """Return the value as it is typed after an open quote, or without one; an empty string where it cannot be."""
    if quote:
        return "" if _SPECIAL[quote] & set(value) else value
    return "".join(one if _PLAIN.fullmatch(one) else f"\\{one}" for one in value)


def quote_for_zsh(value: str) -> str:
    """Return the value as zsh reads it, in one word without any special character."""
    return "$'" + "".join(one if _PLAIN.fullmatch(one) else f"\\x{ord(one):02x}" for one in value) + "'"


def _describe(item: CompletionItem, width: int) -> str:
    return f"{item.value:<{width}}  {_one_line(item.help)}" if item.help else str(item.value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
