"""Outcomes of attempts that end together: written together, each once, and none held up by another one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.notifier.adapters.postgres.deliveries import NewDelivery, insert_deliveries
from services.notifier.adapters.postgres.outcomes import PostgresDeliveryOutcomes
from services.notifier.app import MIGRATIONS, SCHEMA
from services.notifier.core.delivery import Delivery, DeliveryReason, DeliveryState
from services.notifier.ports import DeliveryOutcome
from tests.fakes.notifier import NOW, failed_delivery

pytestmark = pytest.mark.integration

IN_FLIGHT = [failed_delivery(number=number, state=DeliveryState.IN_FLIGHT).delivery for number in range(1, 8)]


@pytest.fixture
async def opened(database: str) -> AsyncIterator[Database]:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA, serves_all=True) as opened:
        for delivery in IN_FLIGHT:
            await insert(opened, delivery)
        yield opened


@pytest.fixture
def outcomes(opened: Database) -> PostgresDeliveryOutcomes:
    return PostgresDeliveryOutcomes(opened, instance="n1", fallbacks={}, probe_interval=timedelta(minutes=1))


async def test_outcomes_that_come_together_are_written_together(
    opened: Database, outcomes: PostgresDeliveryOutcomes
) -> None:
    await asyncio.gather(*(outcomes.record(delivered(each), now=NOW) for each in IN_FLIGHT))
    rows = await opened.fetch("SELECT state, xmin::text FROM deliveries")
    assert [row["state"] for row in rows] == ["DELIVERED"] * len(IN_FLIGHT)
    assert len({row["xmin"] for row in rows}) == 1
    assert await count_results(opened) == len(IN_FLIGHT)


async def test_an_outcome_waits_for_those_of_attempts_that_are_being_made(
    opened: Database, outcomes: PostgresDeliveryOutcomes
) -> None:
    answers = [asyncio.Event() for _ in IN_FLIGHT]

    async def attempt(delivery: Delivery, answer: asyncio.Event) -> None:
        with outcomes.attempt():
            await answer.wait()
        await outcomes.record(delivered(delivery), now=NOW)

    outcomes.linger = timedelta(minutes=1)
    async with asyncio.TaskGroup() as group:
        for delivery, answer in zip(IN_FLIGHT, answers, strict=True):
            group.create_task(attempt(delivery, answer))
        for answer in answers:
            for _ in range(5):
                # One that does not wait is on its way to the database after these.
                await asyncio.sleep(0)
            answer.set()
    rows = await opened.fetch("SELECT xmin::text FROM deliveries WHERE state = 'DELIVERED'")
    assert (len(rows), len({row["xmin"] for row in rows})) == (len(IN_FLIGHT), 1)


async def test_an_outcome_waits_for_nobody_where_no_attempt_is_being_made(outcomes: PostgresDeliveryOutcomes) -> None:
    outcomes.linger = timedelta(minutes=1)
    with outcomes.attempt():
        pass
    await asyncio.wait_for(outcomes.record(delivered(IN_FLIGHT[0]), now=NOW), 30)


async def test_an_outcome_does_not_wait_for_a_channel_that_hangs(outcomes: PostgresDeliveryOutcomes) -> None:
    with outcomes.attempt():
        await asyncio.wait_for(outcomes.record(delivered(IN_FLIGHT[0]), now=NOW), 30)


async def test_batches_of_outcomes_share_one_plan(opened: Database, outcomes: PostgresDeliveryOutcomes) -> None:
    # From the sixth one on the server chooses.
    for _ in range(7):
        await outcomes.record(delivered(IN_FLIGHT[0]), now=NOW)
    plans = await opened.fetch(
        "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement LIKE $1", "%UPDATE deliveries%"
    )
    assert [tuple(row) for row in plans] == [(0, 7)]


async def test_an_outcome_is_written_once(opened: Database, outcomes: PostgresDeliveryOutcomes) -> None:
    same = delivered(IN_FLIGHT[0])
    await asyncio.gather(*(outcomes.record(same, now=NOW) for _ in range(3)))
    await outcomes.record(same, now=NOW)
    assert await count_results(opened) == 1


async def test_only_the_holder_of_the_lease_postpones_a_delivery(
    opened: Database, outcomes: PostgresDeliveryOutcomes
) -> None:
    await opened.fetch("UPDATE deliveries SET holder = 'n2' WHERE id = $1", IN_FLIGHT[0].id)
    await asyncio.gather(*(outcomes.record(postponed(each), now=NOW) for each in IN_FLIGHT[:2]))
    assert await states(opened) == ["IN_FLIGHT", "PENDING", *["IN_FLIGHT"] * 5]
    assert await count_results(opened) == 0


async def test_what_the_database_refuses_holds_up_no_other_outcome(
    opened: Database, outcomes: PostgresDeliveryOutcomes
) -> None:
    refused = delivered(replace(IN_FLIGHT[1], last_error="a NUL \0"))
    recorded = [delivered(IN_FLIGHT[0]), refused, delivered(IN_FLIGHT[2])]
    results = await asyncio.gather(*(outcomes.record(each, now=NOW) for each in recorded), return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert await states(opened) == ["DELIVERED", "IN_FLIGHT", "DELIVERED", *["IN_FLIGHT"] * 4]


async def test_a_delivery_supersedes_what_is_older_about_its_subject(
    opened: Database, outcomes: PostgresDeliveryOutcomes
) -> None:
    await opened.fetch("UPDATE deliveries SET subject_id = 'one', state = 'PENDING' WHERE sequence < 3")
    newest = replace(IN_FLIGHT[2], subject_id="one")
    await asyncio.gather(*(outcomes.record(delivered(each), now=NOW) for each in (newest, IN_FLIGHT[3])))
    assert await states(opened) == ["SUPERSEDED", "SUPERSEDED", "DELIVERED", "DELIVERED", *["IN_FLIGHT"] * 3]


async def test_no_delivery_is_left_behind_by_a_notification_that_is_being_deleted(opened: Database) -> None:
    notification = IN_FLIGHT[0].notification_id
    new = [NewDelivery(notification, "email", "")]
    async with opened.transaction() as purging:
        await purging.execute("DELETE FROM deliveries WHERE notification_id = $1", notification)
        await purging.execute("DELETE FROM notifications WHERE id = $1", notification)
        inserting = asyncio.create_task(opened.run_idempotent(lambda mine: insert_deliveries(mine, new, now=NOW)))
        while not inserting.done() and not await opened.fetch("SELECT FROM pg_locks WHERE NOT granted"):
            # It is about to wait.
            pass
    assert await inserting == []


def delivered(delivery: Delivery) -> DeliveryOutcome:
    after = replace(delivery, state=DeliveryState.DELIVERED, reason=DeliveryReason.DELIVERED, fail_time=None)
    return DeliveryOutcome(before=delivery, after=after, channel_recovered=False)


def postponed(delivery: Delivery) -> DeliveryOutcome:
    after = replace(delivery, state=DeliveryState.PENDING, reason=DeliveryReason.RETRY_LATER, fail_time=None)
    return DeliveryOutcome(before=delivery, after=after, channel_recovered=False)


async def states(database: Database) -> list[str]:
    return [row["state"] for row in await database.fetch("SELECT state FROM deliveries ORDER BY id")]


async def insert(database: Database, delivery: Delivery) -> None:
    await database.fetch(
        "INSERT INTO notifications (id, subject_id, sequence, alert_id, incident_id, kind, record, traceparent,"
        " created_at) VALUES ($1, $2, $3, $4, $5, 1, '', '', $6)",
        delivery.notification_id,
        delivery.subject_id,
        delivery.sequence,
        delivery.alert_id,
        delivery.incident_id,
        NOW,
    )
    await database.fetch(
        "INSERT INTO deliveries (id, notification_id, alert_id, kind, channel, state, holder, attempt_count, due_at,"
        " created_at, updated_at, subject_id, sequence, incident_id)"
        " VALUES ($1, $2, $3, 1, $4, 'IN_FLIGHT', 'n1', 1, $5, $5, $5, $6, $7, $8)",
        delivery.id,
        delivery.notification_id,
        delivery.alert_id,
        delivery.channel,
        NOW,
        delivery.subject_id,
        delivery.sequence,
        delivery.incident_id,
    )


async def count_results(database: Database) -> int:
    return len(await database.fetch("SELECT id FROM outbox"))
