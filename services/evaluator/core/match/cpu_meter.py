"""Measures what pieces of work cost."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
SharedT = TypeVar("SharedT")
ResultT = TypeVar("ResultT")

# Returns the seconds of CPU that the thread has taken: the core reads no clock by itself.
CpuClock = Callable[[], float]


class CpuMeter(Generic[KeyT]):
    """Adds up seconds of CPU by what they were taken for; without a clock it measures nothing."""

    def __init__(self, clock: CpuClock | None = None) -> None:
        self._clock = clock
        self.seconds: dict[KeyT, float] = {}

    def run_for(self, keys: Iterable[KeyT], work: Callable[[], ResultT]) -> ResultT:
        """Do a piece of work for all keys alike; one that comes several times bears more of it."""
        if self._clock is None:
            return work()
        began = self._clock()
        try:
            return work()
        finally:
            shares = Counter(keys)
            taken = (self._clock() - began) / shares.total()
            for key, share in shares.items():
                self.seconds[key] = self.seconds.get(key, 0.0) + share * taken

    def run(self, key: KeyT, work: Callable[[], ResultT]) -> ResultT:
        """Do a piece of work, and measure it also if it fails."""
        return self.run_for((key,), work)


def share_costs(
    own: Mapping[KeyT, float], common: Mapping[SharedT, float], sharers: Mapping[SharedT, Sequence[KeyT]]
) -> Mapping[KeyT, float]:
    """Return what each takes by itself, and its equal part of what it has in common with others."""
    costs = dict(own)
    for key, seconds in common.items():
        for sharer in sharers[key]:
            costs[sharer] = costs.get(sharer, 0.0) + seconds / len(sharers[key])
    return costs
