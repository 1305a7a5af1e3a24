"""A policy is deleted while a tree that names it is set, and the other way round, over two connections to PostgreSQL.

The first of the two has decided and written when the second one begins; it commits once the second one waits for the
lock that both take, or has ended because nothing made it wait. Whichever is first, no tree names a policy that is gone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from services.chassis.failures import InvalidRequest
from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres.on_call import PostgresOnCallReader
from services.manager.adapters.postgres.routing import PostgresRoutingReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.adapters.tenant_caches import OnCallCache, RoutingCache
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.on_call_records import OnCallKind
from services.manager.ports.tables import Transaction
from services.manager.rpc.failures import StillInUse
from services.manager.rpc.on_call_commands import OnCallCommands
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands
from tests.fakes.clock import FakeClock
from tests.fakes.routing import FakeReceivers
from tests.fakes.transitions import NOW
from tests.integration.manager.conftest import until
from tocsin.oncall.v1 import on_call_service_pb2 as on_call_pb
from tocsin.oncall.v1.escalation_policy_pb2 import EscalationPolicy, EscalationStep
from tocsin.routing.v1 import routing_service_pb2 as routing_pb
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree

pytestmark = pytest.mark.integration

_WAITING = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database OR database IS NULL
    JOIN pg_stat_activity USING (pid) WHERE NOT granted AND pg_stat_activity.datname = current_database()
) AS is_waiting
"""


class HeldStore(PostgresStore):
    """A store whose transactions commit when they are let go."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_written = asyncio.Event()
        self.may_commit = asyncio.Event()

    @asynccontextmanager
    async def transaction(self, *, commit: bool = True) -> AsyncIterator[Any]:
        async with super().transaction(commit=commit) as transaction:
            yield transaction
            self.has_written.set()
            await self.may_commit.wait()


class Managers:
    """Two managers: what the first one writes is committed late."""

    def __init__(self, first: Database, second: Database) -> None:
        self.held, self.store, self._databases = HeldStore(first), PostgresStore(second), (first, second)

    async def create_policy(self) -> None:
        policy = EscalationPolicy(name="p", steps=[EscalationStep(receivers=["mail"])])
        await self._on_call(self.store).apply(on_call_pb.ApplyOnCallRequest(policies=[policy]))

    async def set_tree(self, store: PostgresStore) -> None:
        receivers, reader = FakeReceivers("mail"), PostgresRoutingReader(self._databases[1])
        checker = RoutingChecker(receivers, lambda: frozenset({"p"}))
        commands = RoutingCommands(store, reader, FakeClock(NOW), RoutingCache(reader), checker)
        tree = RoutingTree(root=Route(receivers=["mail"], policy="p"))
        await commands.set(routing_pb.SetRoutingRequest(tree=tree, author="ann"))

    async def delete_policy(self, store: PostgresStore) -> None:
        request = on_call_pb.DeleteEscalationPolicyRequest(name="p")
        await self._on_call(store).delete(OnCallKind.POLICY, request)

    async def race(
        self,
        first: Callable[[PostgresStore], Coroutine[Any, Any, None]],
        second: Callable[[PostgresStore], Coroutine[Any, Any, None]],
    ) -> tuple[BaseException | None, BaseException | None]:
        """Do both; the first one commits when the second one waits for it, or has ended."""
        one = asyncio.create_task(first(self.held))
        await asyncio.wait_for(self.held.has_written.wait(), 15)
        other = asyncio.create_task(second(self.store))

        async def waits_or_has_ended() -> bool:
            row = await self._databases[0].fetchrow(_WAITING)
            return other.done() or (row is not None and row["is_waiting"])

        await until(waits_or_has_ended)
        self.held.may_commit.set()
        return await asyncio.gather(one, other, return_exceptions=True)

    async def stored(self) -> tuple[bool, bool]:
        """Return whether the policy is there, and whether a tree names it."""
        async with self.store.transaction() as transaction:
            tables: Transaction = transaction
            policies = (await tables.on_call.load()).names(OnCallKind.POLICY)
            tree = await tables.routing.lock()
        return "p" in policies, tree is not None and "p" in tree.tree.policies()

    def _on_call(self, store: PostgresStore) -> OnCallCommands:
        cache = OnCallCache(PostgresOnCallReader(self._databases[1]))
        return OnCallCommands(store, FakeClock(NOW), lambda: "id", cache, FakeReceivers("mail"))


@pytest.fixture
async def managers(database: str) -> AsyncIterator[Managers]:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(connect(settings, schema=SCHEMA)) for _ in range(2)]
        managers = Managers(first, second)
        await managers.create_policy()
        yield managers


async def test_a_policy_stays_while_a_tree_that_names_it_is_set(managers: Managers) -> None:
    was_set, was_deleted = await managers.race(managers.set_tree, managers.delete_policy)
    assert was_set is None
    assert isinstance(was_deleted, StillInUse)
    assert await managers.stored() == (True, True)


async def test_no_tree_comes_to_name_a_policy_that_is_being_deleted(managers: Managers) -> None:
    was_deleted, was_set = await managers.race(managers.delete_policy, managers.set_tree)
    assert was_deleted is None
    assert isinstance(was_set, InvalidRequest)
    assert await managers.stored() == (False, False)
