"""The routing tree, from the call to what every instance decides by, on real servers."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, again, transition, until
from tests.integration.manager.refusals import refusal
from tocsin.notifications.v1 import notification_service_pb2 as notifier
from tocsin.notifications.v1.notification_pb2 import Receiver
from tocsin.notifications.v1.notification_service_pb2_grpc import (
    NotificationServiceServicer,
    add_NotificationServiceServicer_to_server,
)
from tocsin.routing.v1 import routing_service_pb2 as pb
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree

pytestmark = pytest.mark.integration

FILE = RoutingTree(root=Route(receivers=["chat"], routes=[Route(matchers=["severity=LOW"], receivers=["mail"])]))


class Notifier(NotificationServiceServicer):
    """Has two receivers and a file with routes."""

    async def ListReceivers(self, request: Any, _context: Any) -> notifier.ListReceiversResponse:  # noqa: ARG002, N802
        receivers = [Receiver(name=name) for name in ("chat", "mail")]
        return notifier.ListReceiversResponse(receivers=receivers, file_routes=FILE)


@asynccontextmanager
async def notifier_at(target: str) -> AsyncIterator[None]:
    server = grpc.aio.server()
    add_NotificationServiceServicer_to_server(Notifier(), server)  # type: ignore[abstract]  # no other rpc is called
    server.add_insecure_port(target)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def put(world: World, *receivers: str, **options: Any) -> pb.SetRoutingResponse:
    request = pb.SetRoutingRequest(tree=RoutingTree(root=Route(receivers=receivers)), **options)
    response: pb.SetRoutingResponse = await world.routing.SetRouting(request)
    return response


async def version(world: World) -> int:
    """Return the version that this instance decides by."""
    response = await world.routing.ExplainRouting(pb.ExplainRoutingRequest(labels={"severity": "LOW"}))
    return int(response.version)


async def test_the_routes_of_the_notifiers_file_are_stored_once_by_two_managers(
    settings: Settings, running: Run
) -> None:
    async with notifier_at(settings.notifier_target), running(settings) as one, running(again(settings)) as other:
        for world in (one, other):
            await until(lambda world=world: version(world))  # type: ignore[misc]  # bound here
        stored = (await one.routing.ListRoutingVersions(pb.ListRoutingVersionsRequest())).versions
        assert [(each.version, each.author) for each in stored] == [(1, "notifier's file")]
        explained = await other.routing.ExplainRouting(pb.ExplainRoutingRequest(labels={"severity": "LOW"}))
        assert [list(route.receivers) for route in explained.routes] == [["mail"]]
        assert (await refusal(put(one, "nobody"))).fields == ("tree.root.receivers[0]",)
        assert (await put(one, "chat")).routing.version == 2

        async def is_known() -> bool:
            return await version(other) == 2

        await until(is_known)


async def test_without_the_notifier_a_tree_is_taken_with_a_warning(world: World) -> None:
    missing = await refusal(world.routing.GetRouting(pb.GetRoutingRequest()))
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "ROUTING_NOT_FOUND")
    assert await version(world) == 0
    first = await put(world, "chat", author="ann", request_id=str(uuid.uuid4()))
    assert (first.routing.version, [warning.field for warning in first.warnings]) == (1, ["tree"])
    assert await version(world) == 1
    assert (await refusal(put(world, "mail", etag="x"))).reason == "ETAG_MISMATCH"
    unknown = pb.SetRoutingRequest(tree=RoutingTree(root=Route(receivers=["chat"], policy="night")))
    assert (await refusal(world.routing.SetRouting(unknown))).fields == ("tree.root.policy",)
    done = await asyncio.gather(*(put(world, f"receiver{n}") for n in range(4)))
    assert sorted(each.routing.version for each in done) == [2, 3, 4, 5]
    back = await world.routing.RollbackRouting(pb.RollbackRoutingRequest(version=1))
    assert (back.routing.version, list(back.routing.tree.root.receivers)) == (6, ["chat"])


async def test_notifications_name_the_receivers_of_the_alerts_routes(world: World) -> None:
    await world.publish(transition(resource="before"))
    ((first, _),) = await world.notifications(1)
    assert list(first.receivers) == []
    root = Route(receivers=["operators"], routes=[Route(matchers=['team="payments"'], receivers=["chat", "mail"])])
    await world.routing.SetRouting(pb.SetRoutingRequest(tree=RoutingTree(root=root)))
    await world.publish(transition(resource="ledger", rule_id="rule-2"))
    notified = await world.notifications(2)
    (found,) = [each for each, _ in notified if each.alert.resource == "ledger"]
    assert (set(found.receivers), "route root/0" in found.reason) == ({"chat", "mail"}, True)
