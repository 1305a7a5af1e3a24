"""The routes of the notifier's file become the first version of the tree, once."""

import asyncio
from datetime import timedelta

import pytest

from services.manager.core.routing_tree import RoutingTree
from services.manager.worker.file_routes import FileRoutesWorker
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.routing import FakeReceivers, MemoryRoutingFeed, a_route, a_stored_tree, a_tree

TREE = a_tree(a_route("severity=~CRITICAL|HIGH", receivers=("chat", "mail")))
SECONDS, MINUTE = timedelta(seconds=10), timedelta(minutes=1)


def worker(store: MemoryStore, receivers: FakeReceivers) -> FileRoutesWorker:
    return FileRoutesWorker(store, MemoryRoutingFeed(store), receivers, FakeClock())


def receivers(tree: RoutingTree | None = TREE) -> FakeReceivers:
    return FakeReceivers("chat", "mail", "operators", file_routes=tree)


async def test_the_routes_are_stored_once_by_two_managers() -> None:
    store, asked = MemoryStore(), receivers()
    first, second = worker(store, asked), worker(store, asked)
    assert set(await asyncio.gather(first.turn(), second.turn())) == {MINUTE}
    assert {version: stored.tree for version, stored in store.tables.routing.items()} == {1: TREE}
    assert store.tables.routing[1].author == "notifier's file"
    assert await first.turn() == MINUTE
    assert asked.asked == 2


async def test_a_tree_that_was_set_stays() -> None:
    store = MemoryStore()
    store.tables.routing[1] = a_stored_tree()
    await worker(store, receivers()).turn()
    assert store.tables.routing == {1: a_stored_tree()}


@pytest.mark.parametrize(
    ("tree", "next_look"), [(None, SECONDS), (a_tree(a_route("a=b", receivers=("nobody",))), MINUTE)]
)
async def test_nothing_is_stored_of_a_file_without_routes_or_with_wrong_ones(
    tree: RoutingTree | None, next_look: timedelta
) -> None:
    store = MemoryStore()
    assert await worker(store, receivers(tree)).turn() == next_look
    assert store.tables.routing == {}


async def test_a_notifier_that_is_away_is_asked_again() -> None:
    store, asked = MemoryStore(), receivers()
    known, asked.known = asked.known, None
    waiting = worker(store, asked)
    assert await waiting.turn() == SECONDS
    asked.known = known
    assert await waiting.turn() == MINUTE
    assert list(store.tables.routing) == [1]
