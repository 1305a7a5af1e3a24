"""Two managers, of which one is killed in the middle of each stage until people know: nothing is doubled or missed."""

import asyncio
import re
import signal
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TypeVar

import asyncpg
import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.grpc_client import channel
from services.chassis.kafka import producer
from services.contract.timestamps import datetime_of, timestamp_of
from services.manager.settings import Settings
from tests.integration.manager.conftest import World, again, transition, until
from tests.integration.manager.processes import partitions_of, process, serving
from tocsin.catalog.v1 import catalog_service_pb2
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.oncall.v1 import on_call_service_pb2 as on_call
from tocsin.oncall.v1.escalation_policy_pb2 import EscalationPolicy, EscalationStep
from tocsin.routing.v1 import routing_service_pb2 as routing
from tocsin.routing.v1.routing_tree_pb2 import Route, RoutingTree
from tocsin.silences.v1 import silence_service_pb2 as silences
from tocsin.silences.v1.silence_pb2 import Silence

T = TypeVar("T")

pytestmark = pytest.mark.integration

SERVICES = [f"service-{number}" for number in range(45)]
BUNDLE = timedelta(seconds=10)
STEPS = ("first", "second", "third")
POLICY = EscalationPolicy(
    name="p",
    steps=[EscalationStep(receivers=[name], delay=Duration(seconds=5 * place)) for place, name in enumerate(STEPS)],
)
TREE = RoutingTree(root=Route(receivers=["team"], policy="p", bundling_interval=Duration(seconds=10)))


# What is written in the middle of each stage, as conditions of entries of the incidents' history.
STAGES = (
    "new.kind = 'JOINED'",
    "new.kind = 'ESCALATED' AND new.comment LIKE 'step 2 %'",
    "new.kind = 'NOTIFIED' AND new.comment LIKE 'what changed since %'",
    "new.kind = 'WITHHELD' AND new.comment = 'nothing withholds it any more'",
)
# The key of the lock for which a transaction of the first stage waits.
LOCK = 71_000
HOLD = """
CREATE FUNCTION wait_for_kill() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(tg_argv[0]::bigint); RETURN new; END $$;
"""
HOLD_STAGE = """
CREATE TRIGGER wait_for_kill_{lock} BEFORE INSERT ON incident_history FOR EACH ROW
    WHEN ({condition}) EXECUTE FUNCTION wait_for_kill({lock});
"""
WAITING = """
SELECT objid::bigint, pid, client_port FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND NOT granted AND objid::bigint BETWEEN $1 AND $2
"""


async def kill_in_each_stage(
    world: World, pair: Sequence[Settings], held: asyncio.Event, ended: asyncio.Event
) -> list[int]:
    """Run two managers, and kill once in each stage the one whose transaction is in it; return the stages' locks.

    `held` is set once transactions wait in each stage until their manager was killed.
    """

    async def both_work() -> bool:
        return all([await serving(each) and await partitions_of(each, "alerts") for each in pair])

    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(process(each)) for each in pair]
        await until(both_work, within=60)
        holder = await asyncpg.connect(world.settings.postgres.database_url.reveal())
        stack.push_async_callback(holder.close)
        await world.execute(HOLD)
        locks = range(LOCK, LOCK + len(STAGES))
        for lock, condition in zip(locks, STAGES, strict=True):
            await holder.execute("SELECT pg_advisory_lock($1)", lock)
            await world.execute(HOLD_STAGE.format(lock=lock, condition=condition))
        held.set()
        killed: list[int] = []
        for _ in STAGES:
            found = await until(lambda: holder.fetchrow(WAITING, locks[0], locks[-1]), within=120)
            assert found is not None
            lock, backend, port = found
            turn = next(place for place, each in enumerate(running) if port in ports_of(each))
            running[turn].send_signal(signal.SIGKILL)
            await running[turn].wait()
            # The server notices the end of a connection when it reads from it, which may be in a later stage.
            await holder.execute("SELECT pg_terminate_backend($1)", backend)
            await holder.execute("SELECT pg_advisory_unlock($1)", lock)
            killed.append(lock)
            running[turn] = await stack.enter_async_context(process(pair[turn]))
        await ended.wait()
    return killed


def ports_of(manager: asyncio.subprocess.Process) -> set[int]:
    """Return the local ports of a process's connections."""
    return {each.laddr.port for each in psutil.Process(manager.pid).net_connections("tcp") if each.laddr}


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Call until a manager answers."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)


async def set_up(world: World) -> str:
    """Say who depends on whom, who is notified, and what is silenced; return the silence's id."""
    entries = [ServiceEntry(name=name, depends_on=["database"]) for name in SERVICES]
    applied = catalog_service_pb2.ApplyServicesRequest(services=entries)
    await answered(lambda: world.catalog.ApplyServices(applied))
    policies = on_call.ApplyOnCallRequest(policies=[POLICY], request_id=str(uuid.uuid4()))
    await answered(lambda: world.on_call.ApplyOnCall(policies))
    tree = routing.SetRoutingRequest(tree=TREE, request_id=str(uuid.uuid4()))
    await answered(lambda: world.routing.SetRouting(tree))
    end = timestamp_of(datetime.now(UTC) + timedelta(hours=1))
    quiet = Silence(matchers=["service=quiet"], author="ann", comment="a deployment", end_time=end)
    silence = silences.CreateSilenceRequest(silence=quiet, request_id=str(uuid.uuid4()))
    return str((await answered(lambda: world.silences.CreateSilence(silence))).silence.id)


async def happen(world: World, silence: str) -> None:
    """Let alerts come, a silence end, steps begin, and in the end all alerts end."""

    async def is_notified(receiver: str, service: str) -> bool:
        query = """
            select count(*) > 0 from incident_history join incident_alerts using (incident_id)
            where kind = 'NOTIFIED' and $1 = any(receivers) and service = $2
        """
        return bool(await world.value(query, receiver, service))

    await world.publish(transition(resource="database"), transition(resource="quiet"))
    for first in range(0, len(SERVICES), 15):
        await world.publish(*(transition(resource=name) for name in SERVICES[first : first + 15]))
        await until(lambda: is_notified(STEPS[first // 15], "database"), within=60)  # noqa: B023  (called at once)
    assert not await is_notified("team", "quiet")
    await answered(lambda: world.silences.ExpireSilence(silences.ExpireSilenceRequest(id=silence)))
    await until(lambda: is_notified("third", "quiet"), within=90)
    ended = ("database", "quiet", *SERVICES)
    await world.publish(*(transition("RESOLVED", resource=name, window=1) for name in ended))

    async def is_over() -> bool:
        query = "select count(*) from incident_alerts where is_open"
        waiting = "select count(*) from alerts where correlated_version < version or state <> 'RESOLVED'"
        return bool(await world.value(query) == 0 and await world.value(waiting) == 0)

    await until(is_over, within=90)


@pytest.mark.timeout(300)
async def test_in_whichever_stage_a_manager_is_killed_people_are_notified_once_of_everything(
    settings: Settings,
) -> None:
    pair = [settings, again(settings)]
    held, ended = asyncio.Event(), asyncio.Event()
    async with producer(settings.kafka, "test") as stream, channel(settings.process.listen) as calls:
        world = World.on(settings, stream, calls)
        killing = asyncio.create_task(kill_in_each_stage(world, pair, held, ended))
        await held.wait()
        await happen(world, await set_up(world))
        await until(lambda: is_empty(world), within=60)
        ended.set()
        assert sorted(await killing) == list(range(LOCK, LOCK + len(STAGES)))
        published = int(await world.value("select coalesce(sum(sequence), 0) from incidents"))
        # A record may be published again after a kill, with the same id.
        sent = {each.id: each for each, _ in await world.notifications(published, within=30)}
    by_subject = defaultdict(list)
    for each in sent.values():
        by_subject[each.subject_id].append(each)
    assert sum(map(len, by_subject.values())) == published
    for notifications in by_subject.values():
        judge(sorted(notifications, key=lambda each: each.sequence))
    whole = max(by_subject.values(), key=lambda each: each[-1].incident.incident.alert_count)
    quiet = next(each for each in by_subject.values() if each[0].alert.resource == "quiet")
    assert whole[-1].incident.incident.alert_count == len(SERVICES) + 1
    for notifications in (whole, quiet):
        reasons = [each.reason.split(",")[0] for each in notifications if "policy p" in each.reason]
        assert sorted(reasons) == [f"step {number} of policy p" for number in (1, 2, 3)]


async def is_empty(world: World) -> bool:
    return bool(await world.value("select count(*) = 0 from outbox"))


def judge(notifications: Sequence[Notification]) -> None:
    """Check what the receivers of one incident were sent."""
    assert [each.sequence for each in notifications] == list(range(1, len(notifications) + 1))
    received: dict[str, list[Notification]] = defaultdict(list)
    for each in notifications:
        for name in each.receivers:
            received[name].append(each)
    for sent in received.values():
        assert re.fullmatch("F[FU]*R", "".join(Notification.Kind.Name(each.kind)[0] for each in sent))
        bundles = [datetime_of(each.create_time) for each in sent if each.reason.startswith("what changed")]
        assert all(later - earlier >= BUNDLE for earlier, later in pairwise(bundles))
