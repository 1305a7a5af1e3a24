"""What looking after the store needs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How much there is."""

    rules: int = 0
    enabled_rules: int = 0
    open_alerts: int = 0
    outbox: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoffs:
    """The moments before which things have served their time."""

    alerts: datetime
    transitions: datetime
    requests: datetime


class House(Protocol):
    """The store, from the housekeeper's side."""

    async def figures(self) -> Figures:
        """Count."""

    async def sweep(self, cutoffs: Cutoffs) -> int:
        """Remove a portion of what is older than this; gives how many rows, 0 when none is left.

        Alerts go with their history, counted from their end; open ones stay, however old they are.
        """
