"""Masks the secrets in one text."""

import re
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import re2

from services.redaction.presets import SECRET_GROUP, SecretPattern

# So often a text is searched by all patterns; where they match even then, a whole part is masked.
_MAX_ROUNDS: Final = 4
_TEN: Final = 10
# What a second digit counts in the sum of a card number: the digits of its double together.
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimit:
    """How long a text may be, in bytes of UTF-8 or in characters."""

    maximum: int
    is_in_characters: bool = False

    def size(self, text: bytes) -> int:
        """Return how long a text is."""
        return len(text.decode()) if self.is_in_characters else len(text)

    def cut(self, text: bytes, size: int) -> bytes:
        """Return the begin of a text, at most `size` long and of whole characters."""
        return text.decode()[:size].encode() if self.is_in_characters else text[:size].decode(errors="ignore").encode()


@dataclass(frozen=True, slots=True)
class MaskedText:
    """A text after masking, and the names of what was masked in it now."""

    text: bytes
    names: frozenset[str]


class _Searched:
    """A pattern as RE2 has it, and what stands for its secrets."""

    def __init__(self, pattern: SecretPattern) -> None:
        self.name = pattern.name
        self.mask = mask_of_name(pattern.name)
        self._regex: Any = re2.compile(pattern.regex.encode())
        self._group: int = self._regex.groupindex.get(SECRET_GROUP.encode(), 0)
        self._has_check_digit = pattern.has_check_digit

    def spans(self, text: bytes) -> list[tuple[int, int]]:
        """Return where secrets are, in order and apart; those found later do not begin within those before."""
        spans: list[tuple[int, int]] = []
        at = 0
        while (match := self._regex.search(text, at)) is not None:
            begin, end = self._secret(match)
            is_secret = not self._has_check_digit or has_card_check_digit(text[begin:end])
            if is_secret:
                spans.append((begin, end))
            # A number that is none may end within one that is.
            at = end if is_secret else match.start() + 1
        return spans

    def _secret(self, match: Any) -> tuple[int, int]:
        begin, end = match.span(self._group)
        span: tuple[int, int] = (begin, end) if begin < end else match.span()
        return span


class TextMasker:
    """Masks what the patterns match. Masks in a text are borders: no match reaches over them."""

    def __init__(self, patterns: Sequence[SecretPattern]) -> None:
        self._searched = [_Searched(pattern) for pattern in patterns]
        masks = sorted({each.mask for each in self._searched})
        self._masks = re.compile(b"(" + b"|".join(map(re.escape, masks)) + b")")
        self._all = range(len(self._searched))
        # Whether any of them matches, check digits aside: one search is cheaper than one for each.
        options = re2.Options()
        options.never_capture = True
        self._any: Any = re2.compile(b"|".join(b"(?:%b)" % pattern.regex.encode() for pattern in patterns), options)

    def mask(self, text: bytes, proposed: Collection[int], limit: TextLimit) -> MaskedText:
        """Mask a text in which only the proposed patterns match; it grows up to the limit, and is cut there."""
        names: set[str] = set()
        masked = self._round(text, sorted(proposed), names)
        if masked == text:
            return MaskedText(text, frozenset())
        masked = self._mask_all(masked, names)
        maximum = max(limit.maximum, limit.size(text))
        if limit.size(masked) > maximum:
            masked = self._cut(masked, limit, maximum)
        return MaskedText(masked, frozenset(names))

    def is_mask(self, text: bytes) -> bool:
        """Return whether a text is one mask and nothing else."""
        return self._masks.fullmatch(text) is not None

    def _mask_all(self, text: bytes, names: set[str]) -> bytes:
        for _ in range(_MAX_ROUNDS):
            if not any(map(self._any.search, set(self._masks.split(text)[::2]))):
                return text
            masked = self._round(text, self._all, names)
            if masked == text:
                return text
            text = masked
        parts = self._masks.split(text)
        parts[::2] = [self._mask_whole(part, names) for part in parts[::2]]
        return b"".join(parts)

    def _round(self, text: bytes, numbers: Collection[int], names: set[str]) -> bytes:
        """Search each part between masks once by each of these patterns."""
        for number in numbers:
            parts = self._masks.split(text)
            parts[::2] = [self._mask_part(part, self._searched[number], names) for part in parts[::2]]
            text = b"".join(parts)
        return text

    def _mask_part(self, part: bytes, searched: _Searched, names: set[str]) -> bytes:
        spans = searched.spans(part)
        if not spans:
            return part
        names.add(searched.name)
        pieces, at = [], 0
        for begin, end in spans:
            pieces += [part[at:begin], searched.mask]
            at = end
        return b"".join([*pieces, part[at:]])

    def _mask_whole(self, part: bytes, names: set[str]) -> bytes:
        found = self._matching(part)
        if found is None:
            return part
        names.add(found.name)
        return found.mask

    def _matching(self, part: bytes) -> _Searched | None:
        return next((each for each in self._searched if each.spans(part)), None)

    def _cut(self, text: bytes, limit: TextLimit, maximum: int) -> bytes:
        """Cut a masked text so that no mask is cut, and no part of it becomes a match by being cut."""
        parts = self._masks.split(text)
        ends = list(accumulate(map(limit.size, parts)))
        fitting = bisect_right(ends, maximum)
        is_mask = fitting % 2
        rest = b"" if is_mask else limit.cut(parts[fitting], maximum - ends[fitting] + limit.size(parts[fitting]))
        return b"".join([*parts[:fitting], b"" if self._matching(rest) else rest])


def mask_of_name(name: str) -> bytes:
    """Return what stands for a secret with this name."""
    return f"[redacted:{name}]".encode()


def has_card_check_digit(text: bytes) -> bool:
    """Return whether the digits in a text have the check digit of card numbers (Luhn)."""
    digits = [code - ord("0") for code in reversed(text) if ord("0") <= code <= ord("9")]
    return (sum(digits[::2]) + sum(_DOUBLED[digit] for digit in digits[1::2])) % _TEN == 0
