"""Finds patterns in many texts at once, with Hyperscan."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import hyperscan
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.domain.hyperscan_patterns import END, to_hyperscan
from services.domain.regex import Regex, is_ascii
from services.evaluator.core.match.events import Array, Ints, RowMask, offsets_array

_NEWLINE, _NUL = ord("\n"), 0
# A report is one number: the pattern, and in the low bits the end of the match.
_END_BITS = 40
_END_MASK = 2**_END_BITS - 1

# The library reports each match by a call, which costs 0.4 µs; a pattern by itself costs 0.03 to 0.1 µs for each text.
_MAX_MATCHES_PER_TEXT = 0.5
_MIN_TEXTS = 256
# After so many texts frequent patterns get another chance: some are frequent in a burst only.
_RETRY_TEXTS = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class JoinedTexts:
    """Texts in one buffer, with newlines between them and END behind; inside of them NUL stands for newlines."""

    buffer: bytes
    # Where each text begins, and where it ends.
    starts: Ints
    ends: Ints
    # The texts that have a newline or NUL; None when there are none.
    special: RowMask | None

    @classmethod
    def of(cls, texts: Array) -> Self:
        """Join texts; an absent one is like an empty one."""
        strings: Any = texts.fill_null("") if texts.null_count else texts
        lengths = pc.binary_length(strings).to_numpy(zero_copy_only=False).astype(np.int64)
        ends = np.cumsum(lengths + 1) - 1
        starts = ends - lengths
        offsets = offsets_array(np.array([0, len(strings)]))
        joined: Any = pc.binary_join(pa.ListArray.from_arrays(offsets, strings), "\n")
        data = joined.buffers()[2] or b""
        characters = np.frombuffer(data, np.uint8)[: int(ends[-1]) if len(ends) else 0]
        inner = _inner_newlines(characters, starts)
        nuls = np.flatnonzero(characters == _NUL)
        special = None
        if len(inner) or len(nuls):
            special = np.zeros(len(strings), dtype=np.bool_)
            special[np.searchsorted(starts, np.concatenate([inner, nuls]), side="right") - 1] = True
            characters = characters.copy()
            characters[inner] = _NUL
        return cls(b"".join((characters.data, END)), starts, ends, special)


def _inner_newlines(characters: NDArray[np.uint8], starts: Ints) -> Ints:
    newlines = np.flatnonzero(characters == _NEWLINE)
    if len(newlines) < len(starts):
        return np.empty(0, dtype=np.int64)
    return np.setdiff1d(newlines, starts - 1, assume_unique=True)


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Each pattern that is found with each text in which it is, by their numbers, and where its first match ends.

    The patterns rise, and the texts of each.
    """

    patterns: Ints
    texts: Ints
    ends: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A database, which patterns are left out of it as too frequent, and the numbers of all that are not in it."""

    database: Any
    left_out: frozenset[Regex]
    refused: frozenset[int]

    @classmethod
    def of(cls, patterns: Sequence[Regex], frequent: frozenset[Regex]) -> Self:
        """Compile all patterns but the frequent ones and those that are not supported."""
        numbers = [number for number, pattern in enumerate(patterns) if pattern not in frequent]
        database = compile_database(patterns, numbers)
        if database is None:
            numbers = [number for number in numbers if compile_database(patterns, [number]) is not None]
            database = compile_database(patterns, numbers)
        return cls(database, frequent, frozenset(range(len(patterns))).difference(numbers))


class Scanner:
    """Patterns in a database of Hyperscan. One thread at a time may scan, and another may compile meanwhile."""

    def __init__(self, patterns: Iterable[Regex], frequent: frozenset[Regex] = frozenset()) -> None:
        self.patterns = tuple(patterns)
        # Patterns that are found so often that reporting them costs more than looking for them one by one.
        self.frequent = frequent.intersection(self.patterns)
        self._compiled = Compiled.of(self.patterns, self.frequent)
        self._texts = 0

    @property
    def refused(self) -> frozenset[int]:
        """The numbers of the patterns that are not looked for: others have to."""
        return self._compiled.refused

    @property
    def needs_compiling(self) -> bool:
        """Whether a pattern that is found too often is still looked for."""
        return self.frequent != self._compiled.left_out

    def compile(self) -> Compiled:
        """Compile without the patterns that are found too often; with thousands of others it takes a second."""
        return Compiled.of(self.patterns, self.frequent)

    def use(self, compiled: Compiled) -> None:
        """Scan with what was compiled from now on."""
        self._compiled = compiled

    def count(self, texts: int) -> None:
        """Take so many texts into account; after many of them no pattern counts as frequent any more."""
        self._texts += texts
        if self._texts >= _RETRY_TEXTS:
            self._texts, self.frequent = 0, frozenset()

    def scan(self, texts: JoinedTexts) -> Proposals:
        """Return in which texts each pattern is found."""
        reports: list[int] = []
        self._compiled.database.scan(texts.buffer, match_event_handler=report, context=reports.append)
        found = np.sort(np.array(reports, dtype=np.int64))
        found = found[found & _END_MASK <= len(texts.buffer) - len(END)]
        numbers, ends = found >> _END_BITS, found & _END_MASK
        self._note_frequent(numbers, len(texts.starts))
        rows = np.searchsorted(texts.starts, ends - 1, side="right") - 1
        first = (np.diff(numbers, prepend=-1) != 0) | (np.diff(rows, prepend=-1) != 0)
        return Proposals(numbers[first], rows[first], ends[first])

    def _note_frequent(self, numbers: Ints, texts: int) -> None:
        counts = np.bincount(numbers)
        if texts >= _MIN_TEXTS and counts.max(initial=0) > _MAX_MATCHES_PER_TEXT * texts:
            many = np.flatnonzero(counts > _MAX_MATCHES_PER_TEXT * texts).tolist()
            self.frequent |= {self.patterns[number] for number in many}


def report(number: int, _start: int, end: int, _flags: int, add: Callable[[int], None]) -> None:
    """Add a match that Hyperscan found: its end, and in the high bits the number of the pattern."""
    add(number << _END_BITS | end)


def compile_database(patterns: Sequence[Regex], numbers: Sequence[int]) -> Any:
    """Compile the patterns with these numbers; None without any, or if one is not supported."""
    if not numbers:
        return None
    database: Any = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    chosen = [patterns[number] for number in numbers]
    try:
        database.compile(
            expressions=[to_hyperscan(pattern).encode() for pattern in chosen],
            ids=numbers,
            elements=len(numbers),
            flags=[_flags(each) for each in chosen],
        )
    except hyperscan.HyperscanError:
        return None
    return database


def _flags(pattern: Regex) -> int:
    return hyperscan.HS_FLAG_MULTILINE | (0 if is_ascii(pattern) else hyperscan.HS_FLAG_UTF8)
