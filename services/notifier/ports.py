"""What the notifier needs from the world."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from services.notifier.core.answer import Answer
from services.notifier.core.delivery import Delivery, State
from services.notifier.core.message import Kind, Message


class Channel(Protocol):
    """One way to reach people. Bounded in time; what it says about failures holds no secret."""

    async def send(self, message: Message, delivery: UUID) -> Answer:
        """Tell it once, and say what became of it. Never raises, other than when cancelled.

        The delivery's id goes with it in the form that the channel has for that, so that a repetition is recognised.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A notification with the channels that it goes to; `record` and `traceparent` are as they came.

    With `only`, none but these is told, whoever told an earlier one of the same alert.
    """

    notification_id: UUID
    alert_id: str
    kind: Kind
    record: bytes
    traceparent: str
    channels: tuple[str, ...]
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A delivery that this instance holds the lease of, and what it is to tell."""

    delivery: Delivery
    record: bytes
    traceparent: str


class Plans(Protocol):
    """Takes in what is to be delivered."""

    async def add(self, planned: Sequence[Planned], *, now: datetime) -> frozenset[str]:
        """Keep the deliveries, all or none; those known already stay as they are. Gives the channels with new work.

        Raises StoreUnavailable.
        """
        ...


class Wanted(StrEnum):
    """Which of a channel's jobs to take, always in the order of each alert's life.

    DUE: whose time has come. BY_HAND: of those, the ones that somebody retries. WAITING: all that wait for their first
    or next attempt, due or not, except those retried by hand. DUE_PROBE: a failed one whose time to try the channel
    has come. PROBE: a failed one, due or not.
    """

    DUE = "DUE"
    BY_HAND = "BY_HAND"
    WAITING = "WAITING"
    DUE_PROBE = "DUE_PROBE"
    PROBE = "PROBE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What waits for a channel: how much, and when the next time comes that is not here yet."""

    waiting: int
    failed: int
    next_due: datetime | None


class Queue(Protocol):
    """The deliveries that wait, shared by all instances. A job that is taken is held under a lease.

    All methods raise StoreUnavailable when the database does not answer.
    """

    async def take(
        self,
        channel: str,
        wanted: Wanted,
        *,
        most: int,
        now: datetime,
        held: Collection[UUID] = (),
        due_by: datetime | None = None,
    ) -> list[Job]:
        """Take jobs, the first in the queue first, but none of those that this process still holds.

        With `due_by` only those that have been due since then, or longer.
        """
        ...

    async def outlook(self, channel: str, *, now: datetime) -> Outlook:
        """Look ahead."""
        ...

    async def reclaim(self, *, now: datetime) -> int:
        """Make jobs due that an earlier life of this instance held when it ended. Only before anything is taken."""
        ...

    async def channels(self) -> frozenset[str]:
        """The channels that something waits for, whether they are still in the routes file or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of a job: the delivery before and after, and what else follows from it in the same transaction."""

    before: Delivery
    after: Delivery
    channel_is_back: bool = False


class Outcomes(Protocol):
    """Records what became of jobs."""

    async def record(self, ending: Ending, *, now: datetime) -> frozenset[str]:
        """Keep the new state, who stands in, and the result for the manager, all or none.

        Gives the channels that have new work by it. A job whose lease another one took meanwhile changes nothing.
        Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A delivery that failed in the end, as people see it."""

    delivery: Delivery
    failed_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedQuery:
    """Which ones to list, the newest first, after the position (time of failure, id)."""

    states: frozenset[State] | None
    channel: str
    most: int
    after: tuple[datetime, UUID] | None


class FailedOnes(Protocol):
    """The deliveries that failed in the end. Raises StoreUnavailable."""

    async def page(self, query: FailedQuery) -> list[Failed]:
        """Give one page."""
        ...

    async def retry(self, delivery: UUID, *, now: datetime) -> Failed | None:
        """Make one due at once when its state allows; gives it as it is now, None when there is none."""
        ...


class Archive(Protocol):
    """What was delivered long ago. Raises StoreUnavailable."""

    async def forget(self, *, before: datetime) -> int:
        """Forget a portion of what came before that moment and has ended well; gives how many, 0 when none is left."""
        ...
