"""How far event time is known to have come, from what the match stage says of each source partition."""

from dataclasses import dataclass, field

from services.evaluator.core.records import SECOND_NS, Progress, later

# The watermark moves in steps, so that windows are not looked at for each record.
_STEP_NS = SECOND_NS // 10


@dataclass(slots=True)
class _Heard:
    """The last words of one source."""

    event_ns: int | None = None
    idle_ns: int | None = None


@dataclass(slots=True)
class Watermark:
    """The least of the sources' greatest event times; it never goes back. Changed in place.

    It waits for every source that there is, so one that lags holds it back and nothing of it comes too late. A source
    that is known to be empty counts as if it had an event `allowance_ns` ago. When all are empty the watermark stays,
    and `idle_until` says how far the wall clock may close what is open.
    """

    allowance_ns: int
    value_ns: int | None = None
    _sources: int = 0
    _heard: dict[int, _Heard] = field(default_factory=dict)

    def observe(self, progress: Progress) -> None:
        """Take in what one flush says of its source."""
        self._sources = max(self._sources, progress.source_partitions)
        heard = self._heard.setdefault(progress.source_partition, _Heard())
        heard.event_ns = later(heard.event_ns, progress.max_event_ns)
        heard.idle_ns = progress.idle_ns
        if not self._all_idle:
            self._advance()

    def jump(self, moment_ns: int) -> None:
        """Go on to a moment, because the wall clock decided."""
        self.value_ns = later(self.value_ns, moment_ns)

    @property
    def idle_until_ns(self) -> int | None:
        """Give the moment until which no source has anything; None while one has, or may have."""
        idle = [one.idle_ns for one in self._heard.values() if one.idle_ns is not None]
        return min(idle) - self.allowance_ns if self._sources and len(idle) == self._sources else None

    @property
    def _all_idle(self) -> bool:
        return all(one.idle_ns is not None for one in self._heard.values())

    def _advance(self) -> None:
        reached = [self._reached(one) for one in self._heard.values()]
        known = [moment for moment in reached if moment is not None]
        if len(known) == self._sources:
            self.jump(min(known) // _STEP_NS * _STEP_NS)

    def _reached(self, heard: _Heard) -> int | None:
        return later(heard.event_ns, None if heard.idle_ns is None else heard.idle_ns - self.allowance_ns)
