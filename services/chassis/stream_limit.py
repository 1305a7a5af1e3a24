"""How many streams one caller may have open: they have no end of their own, so a caller could hold any number."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from services.chassis.callers import Caller
from services.chassis.failures import Overloaded

_RETRY_AFTER = timedelta(seconds=5)


class StreamLimit:
    """Counts the open streams of each caller; services of the system may have any number."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._open: Counter[tuple[str, str, str]] = Counter()

    @contextmanager
    def held(self, caller: Caller) -> Iterator[None]:
        """Count a stream of this caller until the end of the block. Raises Overloaded when it has too many."""
        if caller.kind == "service":
            yield
            return
        # Anonymous callers are one.
        key = (caller.tenant, caller.kind, caller.id or caller.name)
        if self._open[key] >= self._maximum:
            raise Overloaded(
                f"this caller has {self._maximum} streams open at this instance, which is the maximum; end some first",
                retry_after=_RETRY_AFTER,
            )
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            # Callers come and go.
            if not self._open[key]:
                del self._open[key]
