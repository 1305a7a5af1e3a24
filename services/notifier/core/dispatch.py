"""What the dispatcher of one channel does next."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Door(StrEnum):
    """What the channel's breaker lets through."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Step(StrEnum):
    """Send what is due; try whether the channel is back; send what is waiting to the fallbacks."""

    SEND = "SEND"
    PROBE = "PROBE"
    DIVERT = "DIVERT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is known of a channel's breaker."""

    door: Door
    probe_at: datetime | None = None
    is_probing: bool = False


def step(guard: Guard, *, now: datetime) -> Step:
    """One attempt and no more decides whether the channel is back; until then nothing waits in vain."""
    if guard.door is Door.CLOSED:
        return Step.SEND
    if guard.is_probing:
        return Step.DIVERT
    if guard.door is Door.HALF_OPEN or (guard.probe_at is not None and now >= guard.probe_at):
        return Step.PROBE
    return Step.DIVERT
