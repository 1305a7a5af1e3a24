"""The watermark: how far event time has come, from the progress of each source partition."""

from dataclasses import dataclass, field

from services.evaluator.core.records import SECOND_NS, BlockProgress, later

# The watermark moves in steps, so that not every record makes the stage look at all windows.
_STEP_NS = SECOND_NS // 10


@dataclass(slots=True)
class _SourceTimes:
    """The latest times of one source."""

    event_ns: int | None = None
    idle_ns: int | None = None


@dataclass(slots=True)
class Watermark:
    """The least of the sources' greatest event times; it never goes back. Changed in place.

    It waits for every source, so one that lags holds it back and nothing of it comes too late. A source that is known
    to be empty counts as if it had an event `allowance_ns` ago. When all are empty the watermark stays, and
    `idle_until_ns` says how far the wall clock may close open windows.
    """

    allowance_ns: int
    value_ns: int | None = None
    _source_count: int = 0
    _sources: dict[int, _SourceTimes] = field(default_factory=dict)

    def observe(self, progress: BlockProgress) -> None:
        """Take the progress of a source into account."""
        self._source_count = max(self._source_count, progress.source_partitions)
        times = self._sources.setdefault(progress.source_partition, _SourceTimes())
        times.event_ns = later(times.event_ns, progress.max_event_ns)
        times.idle_ns = progress.idle_ns
        if not self._all_idle:
            self._advance()

    def jump(self, moment_ns: int) -> None:
        """Move to a moment that the wall clock decided."""
        self.value_ns = later(self.value_ns, moment_ns)

    def has_reached(self, moment_ns: int) -> bool:
        """Whether a window that ends then, lateness included, is closed."""
        return self.value_ns is not None and moment_ns <= self.value_ns

    @property
    def idle_until_ns(self) -> int | None:
        """The moment until which no source has anything; None while one has, or may have."""
        idle = [times.idle_ns for times in self._sources.values() if times.idle_ns is not None]
        return min(idle) - self.allowance_ns if self._source_count and len(idle) == self._source_count else None

    @property
    def _all_idle(self) -> bool:
        return all(times.idle_ns is not None for times in self._sources.values())

    def _advance(self) -> None:
        reached = [self._reached(times) for times in self._sources.values()]
        known = [moment for moment in reached if moment is not None]
        if len(known) == self._source_count:
            self.jump(min(known) // _STEP_NS * _STEP_NS)

    def _reached(self, times: _SourceTimes) -> int | None:
        return later(times.event_ns, None if times.idle_ns is None else times.idle_ns - self.allowance_ns)
