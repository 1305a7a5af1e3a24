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
    """Send what is due; leave the channel alone; try whether it is back; send what is waiting to the fallbacks."""

    SEND = "SEND"
    WAIT = "WAIT"
    PROBE = "PROBE"
    DIVERT = "DIVERT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is known of a channel: its breaker, and until when it asked to be left alone."""

    door: Door
    probe_at: datetime | None = None
    is_probing: bool = False
    wait_until: datetime | None = None


def step(guard: Guard, *, now: datetime) -> Step:
    """One attempt and no more decides whether the channel is back; until then nothing waits in vain."""
    is_waiting = guard.wait_until is not None and now < guard.wait_until
    if guard.door is Door.CLOSED:
        return Step.WAIT if is_waiting else Step.SEND
    if guard.is_probing or is_waiting:
        return Step.DIVERT
    if guard.door is Door.HALF_OPEN or (guard.probe_at is not None and now >= guard.probe_at):
        return Step.PROBE
    return Step.DIVERT
