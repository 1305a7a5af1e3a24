"""Asking the notifier for its receivers, over gRPC in this process."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from services.chassis.tenants import as_tenant
from services.manager.adapters.notifier_client import NotifierClient, ReceiversUnavailable
from tests.fakes.clock import FakeClock
from tests.fakes.edge import Edge
from tests.fakes.routing import a_route, a_tree
from tocsin.notifications.v1.notification_pb2 import Receiver
from tocsin.notifications.v1.notification_service_pb2 import ListReceiversResponse
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree

FILE = RoutingTree(root=Route(receivers=["chat"], routes=[Route(matchers=["severity=LOW"], receivers=["mail"])]))


class Notifier(Edge):
    """Answers with what is set, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = ListReceiversResponse(receivers=[Receiver(name="chat")])
        self.calls = 0
        self.asked: list[Any] = []
        self.is_away = False

    async def ListReceivers(self, request: Any, context: Any) -> ListReceiversResponse:  # noqa: N802
        self.calls += 1
        self.asked.append(request)
        if self.is_away:
            await context.abort(grpc.StatusCode.UNAVAILABLE)
        return self.answer


@pytest.fixture
async def notifier() -> AsyncIterator[Notifier]:
    found, server = Notifier(), grpc.aio.server()
    found.mount(server)
    found.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield found
    await server.stop(0)


async def test_an_answer_is_remembered_for_some_seconds(notifier: Notifier) -> None:
    async with grpc.aio.insecure_channel(notifier.address) as mesh:
        clock = FakeClock()
        client = NotifierClient(mesh, clock)
        assert (await client.receivers()).names == {"chat"}
        notifier.answer.receivers.add(name="mail")
        clock.advance(timedelta(seconds=1))
        assert (await client.receivers()).names == {"chat"}
        clock.advance(timedelta(seconds=1))
        assert (await client.receivers()).names == {"chat", "mail"}
        assert notifier.calls == 2


async def test_the_files_routes_come_as_a_tree(notifier: Notifier) -> None:
    async with grpc.aio.insecure_channel(notifier.address) as mesh:
        assert (await NotifierClient(mesh, FakeClock()).receivers()).file_routes is None
        notifier.answer.file_routes.CopyFrom(FILE)
        found = await NotifierClient(mesh, FakeClock()).receivers()
        assert found.file_routes == a_tree(a_route("severity=LOW", receivers=("mail",)), receivers=("chat",))
        notifier.answer.file_routes.root.matchers.append("=")
        assert (await NotifierClient(mesh, FakeClock()).receivers()).file_routes is None


async def test_a_notifier_that_is_away_is_asked_again_each_time(notifier: Notifier) -> None:
    async with grpc.aio.insecure_channel(notifier.address) as mesh:
        client = NotifierClient(mesh, FakeClock())
        notifier.is_away = True
        for _ in range(2):
            with pytest.raises(ReceiversUnavailable):
                await client.receivers()
        notifier.is_away = False
        assert (await client.receivers()).names == {"chat"}


async def test_each_tenant_is_told_of_its_own_receivers(notifier: Notifier) -> None:
    async with grpc.aio.insecure_channel(notifier.address) as mesh:
        client = NotifierClient(mesh, FakeClock())
        await client.receivers()
        notifier.answer = ListReceiversResponse(receivers=[Receiver(name="mine")])
        with as_tenant("acme"):
            assert (await client.receivers()).names == {"mine"}
        assert (await client.receivers()).names == {"chat"}
        assert [request.tenant for request in notifier.asked] == ["", "acme"]
