"""Blocks: stretches of 256 offsets of a source partition, and what has been counted in one so far."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.evaluator.core.partial import Group, PartialBatch, Progress, Row, RowKey, Tally, partition_of

BLOCK_RECORDS = 256


def block_of(offset: int) -> int:
    """Give the number of the block that an offset belongs to."""
    return offset // BLOCK_RECORDS


def first_offset(block: int) -> int:
    """Give its first offset."""
    return block * BLOCK_RECORDS


def end_offset(block: int) -> int:
    """Give the first offset after it."""
    return (block + 1) * BLOCK_RECORDS


@dataclass(slots=True)
class Block:
    """One block while it is being counted. Changed in place: it is the accumulator of the hot path.

    What it holds is a function of the block's records up to `up_to` and of the rules, however they were cut into
    fetches and flushes.
    """

    number: int
    start: int
    up_to: int
    sent_up_to: int
    # The greatest times among its own records.
    max_event_ns: int | None = None
    max_arrival_ns: int | None = None
    rows: dict[RowKey, Tally] = field(default_factory=dict)
    totals: dict[RowKey, Tally] = field(default_factory=dict)
    _outputs: dict[RowKey, Iterable[int]] = field(default_factory=dict)
    _changed: dict[int, dict[RowKey, None]] = field(default_factory=dict)
    _samples_sent: dict[RowKey, int] = field(default_factory=dict)

    @classmethod
    def at(cls, offset: int) -> "Block":
        """Begin with an offset: the first of its block, unless what came before is gone."""
        return cls(number=block_of(offset), start=offset, up_to=offset, sent_up_to=offset)

    @property
    def is_whole(self) -> bool:
        """Whether all its offsets are contained."""
        return self.up_to >= end_offset(self.number)

    @property
    def has_news(self) -> bool:
        """Whether it contains records that the last flush did not."""
        return self.up_to > self.sent_up_to

    def take(self, offset: int, arrival_ns: int) -> None:
        """Contain one more record."""
        self.up_to = offset + 1
        self.max_arrival_ns = later(self.max_arrival_ns, arrival_ns)

    def saw(self, event_ns: int) -> None:
        """Note the time of an event, at most its arrival."""
        self.max_event_ns = later(self.max_event_ns, event_ns)

    def put(self, key: RowKey, tally: Tally, outputs: int) -> None:
        """Replace a row of a rule."""
        self.rows[key] = tally
        self._note_changed(key, (key.rule_id,), outputs)

    def put_totals(self, key: RowKey, tally: Tally, rule_ids: Iterable[str], outputs: int) -> None:
        """Replace the totals of a frame; they go to where these rules' groups are judged."""
        self.totals[key] = tally
        self._note_changed(key, rule_ids, outputs)

    def flush(self, progress: Progress, outputs: int) -> list[tuple[int, PartialBatch]]:
        """Tell each output partition how far this block is and what changed since the last flush."""
        changed, self._changed = self._changed, {}
        self.sent_up_to = self.up_to
        return [(output, self._batch(progress, changed.get(output, {}))) for output in range(outputs)]

    def _note_changed(self, key: RowKey, rule_ids: Iterable[str], outputs: int) -> None:
        chosen = self._outputs.get(key)
        if chosen is None:
            chosen = self._outputs[key] = _outputs_of(rule_ids, key.group, outputs)
        for output in chosen:
            self._changed.setdefault(output, {})[key] = None

    def _batch(self, progress: Progress, keys: Iterable[RowKey]) -> PartialBatch:
        return PartialBatch(progress=progress, rows=tuple(self._row(key) for key in keys))

    def _row(self, key: RowKey) -> Row:
        if key.is_totals:
            return Row(key, self.totals[key])
        tally = self.rows[key]
        known = self._samples_sent.get(key, 0)
        self._samples_sent[key] = len(tally.samples)
        return Row(key, Tally(*tally[:-2], (), tally.traceparent) if known == len(tally.samples) else tally)


def _outputs_of(rule_ids: Iterable[str], group: Group, outputs: int) -> set[int]:
    found: set[int] = set()
    for rule_id in rule_ids:
        found.add(partition_of(rule_id, group, outputs))
        if len(found) == outputs:
            break
    return found


def later(one: int | None, other: int | None) -> int | None:
    """Give the later of two moments, either of which may be unknown."""
    return max((moment for moment in (one, other) if moment is not None), default=None)
