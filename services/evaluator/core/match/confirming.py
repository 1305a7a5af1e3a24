"""Looks for regular expressions in the texts that a scan proposed for them, each from some place on.

What is looked at is copied into one buffer, in the order of the expressions. Hyperscan takes a part of it without a
price for each expression, but calls back for each match; RE2 compiles an expression each time, and calls back for none.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.domain.hyperscan_patterns import to_hyperscan
from services.domain.regex import Regex
from services.evaluator.core.match.events import Array, Ints, RowMask, mask_of
from services.evaluator.core.match.scanning import JoinedTexts, compile_database, report

# In up to so many texts Hyperscan finds an expression, in more of them RE2.
_MAX_FEW = 50
# So much is copied at a time, or one text.
_MAX_BYTES = 1 << 24
# A view of a string has its length, and the string itself if it is so short; otherwise its first bytes and its place.
_MAX_INLINE, _PREFIX = 12, 4


class Search:
    """A regular expression to look for."""

    def __init__(self, tree: Regex) -> None:
        self._tree = tree

    @functools.cached_property
    def _database(self) -> Any:
        return compile_database([self._tree], [0])

    def takes_few(self, texts: int) -> bool:
        """Whether so many texts are few, and Hyperscan takes the expression."""
        return texts <= _MAX_FEW and self._database is not None

    def find_in_few(self, joined: memoryview, add: Callable[[int], None]) -> None:
        """Add the ends of all matches in texts, and behind them in END."""
        self._database.scan(joined, match_event_handler=report, context=add)

    def find_in_many(self, texts: Array) -> RowMask:
        """Return in which of the texts, each with a newline behind it, there is a match."""
        return mask_of(pc.match_substring_regex(texts, f"(?m){to_hyperscan(self._tree)}"))


@dataclass(frozen=True, slots=True, eq=False)
class Lookups:
    """Where to look for what: the number of a search, which rises, that of a text, and the place from which on."""

    searches: Ints
    texts: Ints
    starts: Ints

    def __getitem__(self, part: slice) -> "Lookups":
        """Return some of them."""
        return Lookups(self.searches[part], self.texts[part], self.starts[part])


# Does a piece of work for these lookups; it may fail.
Run = Callable[[slice, Callable[[], None]], None]


def confirm_lookups(lookups: Lookups, texts: JoinedTexts, searches: Sequence[Search], run: Run) -> RowMask:
    """Return for which lookups what is looked for is there; not for those whose work fails."""
    found = np.zeros(len(lookups.searches), dtype=np.bool_)
    lengths = texts.ends[lookups.texts] + 1 - lookups.starts
    for low, high in runs(np.cumsum(lengths) // _MAX_BYTES):
        excerpts = _Excerpts.of(lookups[low:high], lengths[low:high], texts.buffer)
        found[low:high] = excerpts.confirm(searches, functools.partial(_run_later, run, low))
    return found


def _run_later(run: Run, first: int, part: slice, work: Callable[[], None]) -> None:
    run(slice(first + part.start, first + part.stop), work)


def runs(keys: Ints) -> list[tuple[int, int]]:
    """Return where each run of equal keys begins and ends."""
    borders = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return list(pairwise([0, *borders.tolist(), len(keys)])) if len(keys) else []


@dataclass(frozen=True, slots=True, eq=False)
class _Excerpts:
    """What lookups look at: a copy of it, in which NUL follows the texts of each search, as in END."""

    # Of each search its number, and where its lookups begin and end.
    groups: list[tuple[int, int, int]]
    # The texts, each with its newline, and the NULs; and where each of them begins in the buffer.
    strings: Array
    starts: Ints

    @classmethod
    def of(cls, lookups: Lookups, lengths: Ints, buffer: bytes) -> Self:
        """Copy what lookups look at from a buffer with END behind it."""
        bounds = runs(lookups.searches)
        ends = [high for _, high in bounds]
        places = np.insert(lookups.starts, ends, len(buffer) - 1)
        lengths = np.insert(lengths, ends, 1)
        groups = [(int(lookups.searches[low]), low, high) for low, high in bounds]
        return cls(groups, _copy(buffer, places, lengths), np.cumsum(lengths) - lengths)

    def confirm(self, searches: Sequence[Search], run: Run) -> RowMask:
        """Return for which lookups what is looked for is there."""
        found = np.zeros(len(self.starts), dtype=np.bool_)
        buffer: Any = self.strings.buffers()[2]
        joined, starts = memoryview(buffer), self.starts.tolist()
        reports: list[int] = []
        firsts: list[int] = []
        nuls: list[int] = []
        counts: list[int] = []
        for number, low, high in self.groups:
            # Before these texts stand the NULs of the groups before.
            search, first, nul, before = searches[number], low + len(nuls), high + len(nuls), len(reports)
            if search.takes_few(high - low):
                part = joined[starts[first] : starts[nul] + 1]
                run(slice(low, high), functools.partial(search.find_in_few, part, reports.append))
            else:
                run(slice(low, high), functools.partial(self._find_in_many, search, slice(first, nul), found))
            firsts.append(first)
            nuls.append(nul)
            counts.append(len(reports) - before)
        ends = np.array(reports, dtype=np.int64) + np.repeat(self.starts[firsts], counts)
        found[np.searchsorted(self.starts, ends - 1, side="right") - 1] = True
        return np.delete(found, nuls)

    def _find_in_many(self, search: Search, part: slice, found: RowMask) -> None:
        found[part] = search.find_in_many(self.strings[part])


def _copy(buffer: bytes, starts: Ints, lengths: Ints) -> Array:
    """Return parts of a buffer as strings that stand one behind the other."""
    characters = np.frombuffer(buffer, dtype=np.uint8)
    views = np.zeros((len(starts), 4), dtype=np.int32)
    views[:, 0], views[:, 3] = lengths, starts
    heads = np.minimum(starts[:, np.newaxis] + np.arange(_MAX_INLINE), len(buffer) - 1)
    is_short = lengths <= _MAX_INLINE
    view_bytes = views.view(np.uint8)
    view_bytes[:, 4 : 4 + _PREFIX] = characters[heads[:, :_PREFIX]]
    view_bytes[is_short, 4:] = characters[heads[is_short]]
    buffers = [None, pa.py_buffer(views.tobytes()), pa.py_buffer(buffer)]
    return pa.Array.from_buffers(pa.string_view(), len(starts), buffers).cast(pa.string())
