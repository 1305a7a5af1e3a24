"""What the notifier needs from outside."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar
from uuid import UUID

from services.domain.tenants import SOLE_TENANT
from services.notifier.core.delivery import Delivery, DeliveryState
from services.notifier.core.notification import NotificationContent, NotificationKind
from services.notifier.core.response import ChannelResponse

_T = TypeVar("_T")


class Channel(Protocol):
    """One way to reach people. Bounded in time; the text of a response contains no secret."""

    async def send(self, notification: NotificationContent, delivery_id: UUID) -> ChannelResponse:
        """Send it once, and return what the channel answered. Raises nothing but cancellation.

        The delivery's id goes with it in the form that the channel has for that, so that a repetition is recognised.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNotification:
    """A notification with the channels that it goes to; `record` and `traceparent` are as they came.

    With `receivers` the channels are theirs. With `only`, no other channel is used, whichever took an earlier one of
    the same subject.
    """

    notification_id: UUID
    subject_id: str
    sequence: int
    alert_id: str
    incident_id: str
    kind: NotificationKind
    record: bytes
    traceparent: str
    channels: tuple[str, ...]
    receivers: tuple[str, ...] = ()
    only: frozenset[str] | None = None
    tenant: str = SOLE_TENANT
    is_critical: bool = False
    """Whether it is sent whatever the tenant's limit of notifications."""

    @property
    def is_unreachable(self) -> bool:
        """Return whether it names receivers, and none of them has a channel."""
        return bool(self.receivers) and not self.channels


class DeliveryPlans(Protocol):
    """Where deliveries begin."""

    async def insert(self, planned: Sequence[PlannedNotification], *, now: datetime) -> frozenset[str]:
        """Insert notifications and their deliveries, all or none; leave those that exist as they are.

        Of a new one that is unreachable the result for the manager is written too. Returns the channels with new
        deliveries. Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedDelivery:
    """A delivery that this instance holds the lease of, and the record of its notification."""

    delivery: Delivery
    record: bytes
    traceparent: str


class QueueFilter(StrEnum):
    """Which of a channel's deliveries to lease, each subject's in the order of its life.

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
class QueueStatus:
    """How many deliveries wait for a channel, and the next due time that is still to come."""

    waiting: int
    failed: int
    next_due_time: datetime | None


class DeliveryQueue(Protocol):
    """The deliveries that wait, shared by all instances. All methods raise StoreUnavailable."""

    async def lease(
        self,
        channel: str,
        selected: QueueFilter,
        *,
        limit: int,
        now: datetime,
        held: Collection[UUID] = (),
        due_by: datetime | None = None,
    ) -> list[LeasedDelivery]:
        """Take the leases of deliveries, the first in the queue first, but of none that this process still holds.

        With `due_by` only of those that have been due since then, or longer.
        """
        ...

    async def status(self, channel: str, *, now: datetime) -> QueueStatus:
        """Return how many deliveries wait."""
        ...

    async def release_own_leases(self, *, now: datetime) -> int:
        """Make deliveries due whose lease this instance held when it ended. Only before anything is leased."""
        ...

    async def list_channels(self) -> frozenset[str]:
        """Return the channels that deliveries wait for, whether they are still in the routes file or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """A delivery before and after an attempt, and whether the attempt has shown that its channel has recovered."""

    before: Delivery
    after: Delivery
    channel_recovered: bool = False


class DeliveryOutcomes(Protocol):
    """Where the outcomes of attempts go."""

    def attempt(self) -> AbstractContextManager[None]:
        """Return a block around an attempt: outcomes of others may wait a moment for its own."""
        ...

    async def record(self, outcome: DeliveryOutcome, *, now: datetime) -> frozenset[str]:
        """Write the new state, the deliveries to fallbacks and the result for the manager, all or none.

        The result says once for each notification when it is exhausted. Returns the channels that got new deliveries.
        When another instance has taken over the lease, nothing changes. Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDelivery:
    """A delivery that has failed, as people see it."""

    delivery: Delivery
    fail_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDeliveryQuery:
    """Which ones to list, the newest first, after the position (time of failure, id)."""

    states: frozenset[DeliveryState] | None
    channel: str
    limit: int
    after: tuple[datetime, UUID] | None
    id_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDelivery:
    """A delivery as people see it."""

    delivery: Delivery
    update_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Which deliveries to list, the newest first, after a position (time of creation, id); empty fields select all."""

    states: frozenset[DeliveryState]
    channel: str
    alert_id: str
    incident_id: str
    limit: int
    after: tuple[datetime, UUID] | None


class DeliveryLog(Protocol):
    """All deliveries. Raises StoreUnavailable."""

    async def list_page(self, query: DeliveryQuery) -> list[ListedDelivery]:
        """Return one page."""
        ...


class RequestTable(Protocol):
    """The calls of the last day that had a request id."""

    async def insert(self, request_id: str, digest: str, *, now: datetime) -> tuple[str, bytes] | None:
        """Insert a call and return None when it is the first one with its id, else the first one's digest and response.

        Waits for a concurrent call with the same id.
        """
        ...

    async def update_response(self, request_id: str, response: bytes) -> None:
        """Write the response to the first call."""
        ...


class RetryTransaction(Protocol):
    """One transaction in which somebody retries a failed delivery."""

    @property
    def requests(self) -> RequestTable:
        """Return the calls that had a request id."""
        ...

    async def make_due(self, delivery_id: UUID, *, now: datetime) -> FailedDelivery | None:
        """Make a delivery due that has failed or waits; return it as it is then, whatever its state; None: unknown."""
        ...


class FailedDeliveries(Protocol):
    """The deliveries that have failed. Raises StoreUnavailable."""

    async def list_page(self, query: FailedDeliveryQuery) -> list[FailedDelivery]:
        """Return one page."""
        ...

    async def in_transaction(self, work: Callable[[RetryTransaction], Awaitable[_T]]) -> _T:
        """Do the work in one transaction; a second time when the connection was lost."""
        ...
