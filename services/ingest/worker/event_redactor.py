"""Masking secrets: all events pass here before they are checked, and again once some of their values are adjusted."""

import asyncio

from services.contract.event_columns import concat_events
from services.ingest.core.columns import Columns
from services.ingest.core.redaction import Redact, redact_nothing
from services.ingest.metrics import Metrics

# Masking them takes a few milliseconds, hostile ones a quarter of a second.
_TURN_BYTES = 256 * 1024


class EventRedactor:
    """Masks the secrets in events and counts them."""

    def __init__(self, metrics: Metrics, redact: Redact = redact_nothing) -> None:
        self._redact = redact
        self._metrics = metrics

    async def redact_in_turns(self, events: Columns) -> Columns:
        """Do the same for many events, part by part, so that other calls have their turn."""
        if self._redact is redact_nothing or events.nbytes <= _TURN_BYTES:
            return self.redact(events)
        size = max(1, events.num_rows * _TURN_BYTES // events.nbytes)
        parts = [events.slice(begin, size) for begin in range(0, events.num_rows, size)]
        redacted = []
        for part in parts:
            redacted.append(self.redact(part))
            await asyncio.sleep(0)
        is_unchanged = all(after is before for after, before in zip(redacted, parts, strict=True))
        return events if is_unchanged else concat_events(redacted)

    def redact(self, events: Columns) -> Columns:
        """Return the events with their secrets masked; the very same columns where there are none."""
        redaction = self._redact(events)
        for name, values in redaction.value_counts.items():
            self._metrics.redacted(name, values)
        return redaction.events
