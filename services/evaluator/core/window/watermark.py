"""The watermark: how far event time has come, from the progress of each source partition."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.evaluator.core.records import SECOND_NS, BlockProgress, later

# The watermark moves in steps, so that not every record makes the stage look at all windows.
_STEP_NS = SECOND_NS // 10


@dataclass(slots=True)
class SourceTimes:
    """The latest times of one source: of an event, and since when it is idle. Changed in place."""

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
    source_count: int = 0
    _sources: dict[int, SourceTimes] = field(default_factory=dict)

    def observe(self, progress: BlockProgress) -> None:
        """Take the progress of a source into account."""
        self.source_count = max(self.source_count, progress.source_partitions)
        times = self._sources.setdefault(progress.source_partition, SourceTimes())
        times.event_ns = later(times.event_ns, progress.max_event_ns)
        times.idle_ns = progress.idle_ns
        if not self._all_idle:
            self._advance()

    def sources(self) -> dict[int, SourceTimes]:
        """Return copies of what is known of each source."""
        return {source: replace(times) for source, times in self._sources.items()}

    def resume(self, source_count: int, sources: Mapping[int, SourceTimes]) -> None:
        """Go on with what was known of the sources."""
        self.source_count = source_count
        self._sources = {source: replace(times) for source, times in sources.items()}

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
        return min(idle) - self.allowance_ns if self.source_count and len(idle) == self.source_count else None

    @property
    def _all_idle(self) -> bool:
        return all(times.idle_ns is not None for times in self._sources.values())

    def _advance(self) -> None:
        reached = [self._reached(times) for times in self._sources.values()]
        known = [moment for moment in reached if moment is not None]
        if len(known) == self.source_count:
            self.jump(min(known) // _STEP_NS * _STEP_NS)

    def _reached(self, times: SourceTimes) -> int | None:
        return later(times.event_ns, None if times.idle_ns is None else times.idle_ns - self.allowance_ns)
