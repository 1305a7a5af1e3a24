"""The client of the notifier: which receivers it has, and the routes of its file."""

import asyncio

import grpc
import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.chassis.tenants import current_tenant
from services.domain.tenants import write_tenant
from services.manager.core.routing_tree import RoutingTree
from services.manager.messages.routing import read_routing_tree
from services.manager.ports.feeds import NotifierReceivers
from tocsin.notifications.v1.notification_service_pb2 import ListReceiversRequest, ListReceiversResponse
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub

log = structlog.get_logger()

_TIMEOUT_S = 2.0
_MAX_AGE_S = 2.0


class ReceiversUnavailable(Failure):
    """The notifier does not say which receivers it has."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "RECEIVERS_UNAVAILABLE"


class NotifierClient:
    """Asks the notifier, and remembers its answer for some seconds."""

    def __init__(self, mesh: grpc.aio.Channel, clock: Clock) -> None:
        self._stub = NotificationServiceStub(mesh)
        self._clock = clock
        # By tenant, with the time when it was asked.
        self._known: dict[str, tuple[NotifierReceivers, float]] = {}
        self._asking = asyncio.Lock()

    async def receivers(self) -> NotifierReceivers:
        async with self._asking:
            tenant, now = current_tenant(), self._clock.monotonic()
            known = self._known.get(tenant)
            if known is None or now - known[1] >= _MAX_AGE_S:
                known = self._known[tenant] = await self._ask(tenant), now
            return known[0]

    async def _ask(self, tenant: str) -> NotifierReceivers:
        request = ListReceiversRequest(tenant=write_tenant(tenant))
        try:
            response = await self._stub.ListReceivers(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise ReceiversUnavailable("the notifier does not answer") from error
        return NotifierReceivers(
            names=frozenset(receiver.name for receiver in response.receivers), file_routes=_file_routes(response)
        )


def _file_routes(response: ListReceiversResponse) -> RoutingTree | None:
    if not response.HasField("file_routes"):
        return None
    tree, problems = read_routing_tree(response.file_routes)
    if problems:
        log.warning("file_routes_unreadable", problems=[f"{field}: {problem}" for field, problem in problems[:10]])
        return None
    return tree
