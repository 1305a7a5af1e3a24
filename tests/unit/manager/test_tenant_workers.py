"""Work that is done for each tenant by itself, and what is kept for each in memory."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.failures import StoreUnavailable
from services.chassis.tenants import as_tenant, current_tenant
from services.manager.worker.tenants import EachTenant


class Directory:
    def __init__(self, *names: str) -> None:
        self.known = names

    async def refresh(self) -> None:
        raise NotImplementedError


def turns(
    done: list[str], **pauses: timedelta | Exception | None
) -> Callable[[], Callable[[], Coroutine[Any, Any, timedelta | None]]]:
    def make() -> Callable[[], Coroutine[Any, Any, timedelta | None]]:
        made_for = current_tenant()

        async def turn() -> timedelta | None:
            assert made_for == current_tenant()
            done.append(made_for)
            pause = pauses[made_for]
            if isinstance(pause, Exception):
                raise pause
            return pause

        return turn

    return make


async def test_each_tenant_has_its_turn_and_the_shortest_pause_counts() -> None:
    done: list[str] = []
    each = EachTenant(Directory("a", "b", "c"), turns(done, a=timedelta(2), b=timedelta(1), c=None))
    assert await each.turn() == timedelta(1)
    assert await each.turn() == timedelta(1)
    assert done == ["a", "b", "c"] * 2
    assert current_tenant() == "default"


async def test_without_a_pause_of_its_own_the_loops_counts() -> None:
    assert await EachTenant(Directory("a"), turns([], a=None)).turn() is None


async def test_a_failure_of_one_tenant_keeps_no_other_from_its_turn() -> None:
    done: list[str] = []
    each = EachTenant(Directory("a", "b"), turns(done, a=StoreUnavailable("away"), b=None))
    with pytest.raises(StoreUnavailable):
        await each.turn()
    assert done == ["a", "b"]


async def test_a_worker_with_a_memory_is_made_once_for_each_tenant() -> None:
    made: list[str] = []

    def make() -> Callable[[], Coroutine[Any, Any, timedelta | None]]:
        made.append(current_tenant())

        async def turn() -> timedelta | None:
            return None

        return turn

    directory = Directory("a")
    each = EachTenant(directory, make)
    await each.turn()
    directory.known = ("a", "b")
    with as_tenant("other"):
        await each.turn()
    assert made == ["a", "b"]
