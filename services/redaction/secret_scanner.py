"""Proposes the texts in which a secret may be: one scan of all texts for all patterns, with Hyperscan."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import hyperscan
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.domain.hyperscan_patterns import END, rarest_piece, to_hyperscan, trim, widen
from services.domain.regex import Regex, is_ascii
from services.domain.regex_syntax import parse_regex
from services.redaction.presets import SecretPattern

_NEWLINE: Final = ord("\n")
# Each report is a call from Hyperscan. After so many, one by one is no longer the dearer way.
_MAX_REPORTS: Final = 1000
_MAX_REPORTS_PER_TEXT: Final = 4


class SecretScanner:
    """The patterns in a database of Hyperscan, for one thread at a time."""

    def __init__(self, patterns: Sequence[SecretPattern]) -> None:
        self._all = frozenset(range(len(patterns)))
        self._database = _database([pattern.regex for pattern in patterns])

    def scan(self, texts: "pa.Array[Any]") -> Mapping[int, frozenset[int]]:
        """Return which patterns may match, by the number of each text; a text without any is not there."""
        if not len(texts):
            return {}
        buffer, starts = _join(texts)
        reports: list[tuple[int, int]] = []
        is_whole = self._scan(buffer, reports, _MAX_REPORTS + _MAX_REPORTS_PER_TEXT * len(texts))
        found = np.array(reports, dtype=np.int64).reshape(-1, 2)
        found = found[found[:, 1] <= len(buffer) - len(END)]
        rows = (np.searchsorted(starts, found[:, 1] - 1, side="right") - 1).tolist()
        proposed: dict[int, set[int]] = {}
        for number, row in set(zip(found[:, 0].tolist(), rows, strict=True)):
            proposed.setdefault(row, set()).add(number)
        # The texts from the last report on were not scanned to their ends.
        unscanned = () if is_whole else range(rows[-1], len(texts))
        return {row: frozenset(numbers) for row, numbers in proposed.items()} | dict.fromkeys(unscanned, self._all)

    def _scan(self, buffer: Any, reports: list[tuple[int, int]], max_reports: int) -> bool:
        """Report each match by its pattern and end; return whether that were all."""

        def report(number: int, _start: int, end: int, _flags: int, add: Callable[[tuple[int, int]], None]) -> bool:
            add((number, end))
            return len(reports) >= max_reports

        try:
            self._database.scan(buffer, match_event_handler=report, context=reports.append)
        except hyperscan.ScanTerminated:
            return False
        return True


def proposing_regex(regex: str) -> Regex:
    """Return what Hyperscan looks for: it is wherever RE2 finds the regular expression. Raises UnsupportedError."""
    return rarest_piece(widen(trim(parse_regex(regex))))


def compiles(regex: str) -> bool:
    """Return whether Hyperscan takes a regular expression that can be read."""
    try:
        _database([regex])
    except hyperscan.HyperscanError:
        return False
    return True


def _database(regexes: Sequence[str]) -> Any:
    looked_for = [proposing_regex(regex) for regex in regexes]
    database: Any = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[to_hyperscan(each).encode() for each in looked_for],
        ids=list(range(len(looked_for))),
        elements=len(looked_for),
        flags=[hyperscan.HS_FLAG_MULTILINE | (0 if is_ascii(each) else hyperscan.HS_FLAG_UTF8) for each in looked_for],
    )
    return database


def _join(texts: Any) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Return the texts with newlines between them, NUL instead of newlines inside, and END; and where each begins."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy().astype(np.int64) + 1)
    starts = np.concatenate([[0], ends[:-1]])
    listed: Any = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    joined: Any = pc.binary_join(listed, "\n")
    data = joined.buffers()[2] or b""
    characters = np.frombuffer(data, np.uint8)[: ends[-1] - 1]
    newlines = np.flatnonzero(characters == _NEWLINE)
    if len(newlines) >= len(texts):
        characters = characters.copy()
        characters[np.setdiff1d(newlines, starts - 1, assume_unique=True)] = 0
    return b"".join((characters.data, END)), starts
