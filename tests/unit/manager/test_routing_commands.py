"""Setting trees by calls: what is refused, and what happens when a call comes again."""

import uuid
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.failures import InvalidRequest
from services.manager.core.catalog import Catalog, ServiceEntry, StoredService
from services.manager.rpc.failures import EtagMismatch, RoutingNotFound
from services.manager.rpc.routing import RoutingContext, RoutingRpc
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands
from tests.fakes.clock import FakeClock
from tests.fakes.edge import StoredSilences
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import (
    MemoryCatalogFeed,
    MemoryMatchedAlertReader,
    MemoryRoutingReader,
    MemorySilenceReader,
)
from tests.fakes.on_call import FixedOnCall, a_person, a_policy, a_snapshot, a_step
from tests.fakes.routing import FakeReceivers, MemoryRoutingFeed
from tocsin.routing.v1 import routing_service_pb2 as pb
from tocsin.routing.v1.routing_tree_pb2 import Correlation, InhibitionRule, Route, RoutingTree


class World:
    """The service on a store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.receivers = FakeReceivers("chat", "mail")
        self.catalog = MemoryCatalogFeed(self.store)
        reader, feed = MemoryRoutingReader(self.store), MemoryRoutingFeed(self.store)
        checker = RoutingChecker(self.receivers, lambda: {"night", "lost"})
        context = RoutingContext(
            catalog=self.catalog,
            silences=StoredSilences(self.store),
            silence_reader=MemorySilenceReader(self.store),
            alerts=MemoryMatchedAlertReader(self.store),
            on_call=FixedOnCall(a_person("ann"), a_policy("night", steps=(a_step(people=("ann",), schedules=()),))),
        )
        commands = RoutingCommands(self.store, reader, FakeClock(), feed, checker)
        self.rpc = RoutingRpc(commands, checker, reader, feed, context, FakeClock())

    async def set(self, *receivers: str, **fields: Any) -> pb.SetRoutingResponse:
        request = pb.SetRoutingRequest(tree=RoutingTree(root=Route(receivers=receivers)), **fields)
        return await self.rpc.SetRouting(request, None)

    async def refused(self, tree: RoutingTree) -> dict[str, str]:
        with pytest.raises(InvalidRequest) as refusal:
            await self.rpc.SetRouting(pb.SetRoutingRequest(tree=tree), None)
        return {each.field: each.description for each in refusal.value.violations}


@pytest.fixture
def world() -> World:
    return World()


async def test_versions_follow_each_other(world: World) -> None:
    first = await world.set("chat", author=" ann ", comment="at first")
    assert (first.routing.version, first.routing.author, first.routing.comment) == (1, "ann", "at first")
    assert (await world.set("chat", etag="another")).unchanged
    second = await world.set("mail", etag=first.routing.etag)
    assert (second.routing.version, second.routing.author, second.unchanged) == (2, "anonymous", False)
    with pytest.raises(EtagMismatch):
        await world.set("chat", etag=first.routing.etag)
    assert (await world.rpc.GetRouting(pb.GetRoutingRequest(), None)).routing == second.routing
    assert (await world.rpc.GetRouting(pb.GetRoutingRequest(version=1), None)).routing == first.routing


async def test_nobody_is_the_notifiers_file(world: World) -> None:
    with pytest.raises(InvalidRequest, match="author"):
        await world.set("chat", author="notifier's file")


async def test_an_etag_without_a_tree_is_another_ones(world: World) -> None:
    with pytest.raises(EtagMismatch):
        await world.set("chat", etag="x")


async def test_a_call_that_comes_again_sets_once(world: World) -> None:
    name = str(uuid.uuid4())
    first = await world.set("chat", request_id=name)
    await world.set("mail")
    assert await world.set("chat", request_id=name) == first
    assert len(world.store.tables.routing) == 2
    with pytest.raises(InvalidRequest):
        await world.set("chat", request_id="x")


async def test_a_check_stores_nothing(world: World) -> None:
    checked = await world.set("chat", validate_only=True, author="ann")
    assert (checked.routing.version, checked.routing.etag, checked.routing.author) == (0, "", "ann")
    assert not world.store.tables.routing


async def test_a_rollback_is_a_new_version_and_checked_again(world: World) -> None:
    await world.set("chat")
    await world.set("mail")
    done = await world.rpc.RollbackRouting(pb.RollbackRoutingRequest(version=1), None)
    assert (done.routing.version, done.routing.comment) == (3, "back to version 1")
    assert list(done.routing.tree.root.receivers) == ["chat"]
    assert (await world.rpc.RollbackRouting(pb.RollbackRoutingRequest(version=3), None)).unchanged
    world.receivers.known = FakeReceivers("mail").known
    with pytest.raises(InvalidRequest, match=r"tree\.root\.receivers\[0\]"):
        await world.rpc.RollbackRouting(pb.RollbackRoutingRequest(version=1), None)
    with pytest.raises(RoutingNotFound):
        await world.rpc.RollbackRouting(pb.RollbackRoutingRequest(version=9), None)
    with pytest.raises(InvalidRequest):
        await world.rpc.RollbackRouting(pb.RollbackRoutingRequest(), None)


async def test_while_the_notifier_is_away_a_tree_is_taken_with_a_warning(world: World) -> None:
    world.receivers.known = None
    (warning,) = (await world.set("nobody_knows")).warnings
    assert (warning.field, "not checked" in warning.description) == ("tree", True)
    assert world.receivers.asked == 1
    with pytest.raises(InvalidRequest):
        await world.set("No name")


async def test_a_policy_that_was_deleted_since_the_check_is_refused(world: World) -> None:
    night = RoutingTree(root=Route(receivers=["chat"], policy="night"))
    assert await world.refused(night) == {"tree.root.policy": 'there is no escalation policy "night"; there are none'}
    assert world.store.tables.routing == {}
    world.store.tables.on_call = a_snapshot(a_policy("night"))
    assert (await world.rpc.SetRouting(pb.SetRoutingRequest(tree=night), None)).routing.version == 1


async def test_versions_are_listed_in_pages(world: World) -> None:
    for receiver in ("chat", "mail", "chat"):
        await world.set(receiver)
    first = await world.rpc.ListRoutingVersions(pb.ListRoutingVersionsRequest(page_size=2), None)
    assert [each.version for each in first.versions] == [3, 2]
    assert not first.versions[0].HasField("tree")
    request = pb.ListRoutingVersionsRequest(page_size=2, page_token=first.next_page_token)
    last = await world.rpc.ListRoutingVersions(request, None)
    assert ([each.version for each in last.versions], last.next_page_token) == ([1], "")
    with pytest.raises(InvalidRequest):
        await world.rpc.ListRoutingVersions(pb.ListRoutingVersionsRequest(page_token="x"), None)


async def test_all_that_is_wrong_is_named_at_once(world: World) -> None:
    endless = Duration(seconds=315_576_000_000)
    route = Route(
        matchers=["a=b", "c=~("],
        receivers=["chat", "nobody"],
        without_receivers=True,
        policy="day",
        correlation=Correlation(labels=["a"], without_labels=True, window=endless),
    )
    rule = InhibitionRule(source=["x"], equal=[""])
    tree = RoutingTree(root=Route(receivers=["mail"], routes=[route]), inhibition_rules=[rule])
    assert set(await world.refused(tree)) == {
        "tree.root.routes[0].matchers[1]",
        "tree.root.routes[0].withoutReceivers",
        "tree.root.routes[0].receivers[1]",
        "tree.root.routes[0].policy",
        "tree.root.routes[0].correlation.withoutLabels",
        "tree.root.routes[0].correlation.window",
        "tree.inhibitionRules[0].source[0]",
        "tree.inhibitionRules[0].target",
        "tree.inhibitionRules[0].equal[0]",
    }


async def test_a_tree_that_is_none_or_too_large_is_refused(world: World) -> None:
    assert await world.refused(RoutingTree()) == {"tree.root": "is required"}
    large = RoutingTree(root=Route(receivers=["chat"], routes=[Route(matchers=["a=" + "x" * 1000])] * 300))
    assert "bytes" in (await world.refused(large))["tree"]
    nul = RoutingTree(root=Route(receivers=["chat"], routes=[Route(matchers=["a=\0"])]))
    assert await world.refused(nul) == {"matchers": "must not contain the character NUL"}


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"": "x"},
        {"a" * 257: "x"},
        {"a": "x" * 1025},
        {str(n): "x" for n in range(65)},
        {"a": "\0"},
        {"severity": "high"},
    ],
)
async def test_labels_that_no_alert_has_are_refused(world: World, labels: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="labels"):
        await world.rpc.ExplainRouting(pb.ExplainRoutingRequest(labels=labels), None)


async def test_the_steps_of_a_routes_policy_are_explained(world: World) -> None:
    world.store.tables.on_call = a_snapshot(a_policy("night"), a_policy("lost"))
    routes = [Route(matchers=["team=shop"], policy="night"), Route(policy="lost")]
    tree = RoutingTree(root=Route(receivers=["chat"], routes=routes))
    request = pb.ExplainRoutingRequest(labels={"team": "shop", "severity": "HIGH"}, tree=tree)
    (route,) = (await world.rpc.ExplainRouting(request, None)).routes
    (step,) = route.escalation
    assert (list(step.people), step.reason) == (["ann"], "step 1 of policy night")
    request.labels["team"] = "x"
    (route,) = (await world.rpc.ExplainRouting(request, None)).routes
    assert (route.policy, list(route.escalation)) == ("lost", [])


async def test_the_catalogs_labels_of_the_service_are_added(world: World) -> None:
    entry = ServiceEntry(name="pay", labels={"team": "shop", "tier": "1"})
    now = FakeClock().now()
    stored = StoredService(entry=entry, revision=1, create_time=now, update_time=now)
    world.catalog.current = Catalog(services={"pay": stored})
    request = pb.ExplainRoutingRequest(labels={"service": "pay", "tier": "2"})
    labels = (await world.rpc.ExplainRouting(request, None)).labels
    assert dict(labels) == {"service": "pay", "tier": "2", "team": "shop"}


async def test_without_a_tree_the_file_decides(world: World) -> None:
    with pytest.raises(RoutingNotFound):
        await world.rpc.GetRouting(pb.GetRoutingRequest(), None)
    explained = await world.rpc.ExplainRouting(pb.ExplainRoutingRequest(labels={"a": "b", "c": ""}), None)
    assert (explained.is_decided_by_file, dict(explained.labels)) == (True, {"a": "b"})
    assert world.catalog.current == Catalog()
    await world.set("chat")
    explained = await world.rpc.ExplainRouting(pb.ExplainRoutingRequest(labels={"a": "b"}), None)
    assert (explained.version, list(explained.routes[0].receivers)) == (1, ["chat"])
