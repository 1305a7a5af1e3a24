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


class House(Protocol):
    """The store, from the housekeeper's side."""

    async def figures(self) -> Figures:
        """Count."""

    async def sweep(self, *, transitions_before: datetime, requests_before: datetime) -> int:
        """Remove what is older than this; gives how many rows."""
