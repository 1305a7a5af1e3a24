"""When each key was last used: noted at each call, and reported in batches, so that no call waits for it.

What is shown of a key is coarse on purpose: an instance reports a key once a minute at most, however often it is used.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

# A key that was not used for a while is shown as used after this time at most.
KEY_USE_INTERVAL = timedelta(seconds=5)
_REPORT_SPAN = timedelta(minutes=1)


class KeyUses:
    """The uses that are not reported yet, by the key's id."""

    def __init__(self) -> None:
        self._last: dict[str, datetime] = {}
        # When a key was last reported, within the span.
        self._reported: dict[str, datetime] = {}

    def note(self, key_id: str, at: datetime) -> None:
        """Remember that a key was used."""
        self._last[key_id] = at

    def take_due(self, now: datetime) -> Mapping[str, datetime]:
        """Return when keys were last used, of those that were not reported within a minute; they are reported now."""
        self._reported = {key: time for key, time in self._reported.items() if now - time < _REPORT_SPAN}
        due = {key: time for key, time in self._last.items() if key not in self._reported}
        for key in due:
            del self._last[key]
            self._reported[key] = now
        return due

    def put_back(self, uses: Mapping[str, datetime]) -> None:
        """Undo `take_due` for uses that could not be reported."""
        for key, time in uses.items():
            self._last.setdefault(key, time)
            self._reported.pop(key, None)
