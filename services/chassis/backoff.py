"""How long to wait before trying again."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses that double from `first` up to `most`, with jitter so that instances do not march in step."""

    first: timedelta = timedelta(milliseconds=100)
    most: timedelta = timedelta(seconds=5)
    chance: Callable[[], float] = random.random

    def delay(self, attempt: int) -> timedelta:
        """Return the pause after attempt number `attempt`, counted from 0: between half of it and all of it."""
        doubled: timedelta = self.first * 2 ** min(attempt, 30)
        whole = min(doubled, self.most)
        return whole * (0.5 + 0.5 * self.chance())
