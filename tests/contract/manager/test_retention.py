"""Expired rows are purged in batches; an open alert never expires."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis import request_ids
from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.manager.adapters.postgres import retention
from services.manager.adapters.postgres.retention import PostgresRetention
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_lifecycle import Ended
from services.manager.core.incident_changes import open_incident
from services.manager.core.rule import RuleEdit, StoredRule
from services.manager.core.service_changes import ServiceChange, ServiceChangeKind
from services.manager.metrics import Metrics
from services.manager.worker.retention import RetentionPolicy, RetentionWorker
from tests.contract.manager.incident_stores import alert as incident_alert
from tests.contract.manager.stores import process, rule, stored_in
from tests.fakes.clock import FakeClock
from tests.fakes.transitions import NOW, a_subject, a_transition

pytestmark = pytest.mark.integration

DAYS = timedelta(days=1)
POLICY = RetentionPolicy(
    purge_interval=timedelta(),
    alerts=90 * DAYS,
    incidents=90 * DAYS,
    transitions=14 * DAYS,
    requests=DAYS,
    changes=90 * DAYS,
    silences=90 * DAYS,
    audit=400 * DAYS,
)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Database]:
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as opened:
        yield opened


def _at(found: StoredRule, revision: int) -> StoredRule:
    return replace(found, rule=replace(found.rule, revision=revision))


async def counts(store: Database) -> dict[str, int]:
    tables = ("alerts", "alert_history", "alert_transitions", "alert_rule_history")
    return {
        table: (await store.fetch(f"SELECT count(*) FROM {table}"))[0][0]  # noqa: S608  (our own names)
        for table in tables
    }


async def test_alerts_expire_with_their_history_after_their_end_and_open_ones_never(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    stored = stored_in(store)
    for number in range(5):
        about = a_subject(f"service-{number}")
        await process(stored, a_transition(subject=about), a_transition(Ended, subject=about, window=1))
    await process(stored, a_transition(subject=a_subject("still open")))
    # When they were heard is the database's own time.
    await store.fetch("UPDATE alert_transitions SET create_time = $1", NOW)
    clock = FakeClock(NOW)
    worker = RetentionWorker(PostgresRetention(store), POLICY, clock, Metrics())
    clock.advance(89 * DAYS)
    await worker.turn()
    assert (await counts(store))["alerts"] == 6
    assert (await counts(store))["alert_transitions"] == 1
    clock.advance(2 * DAYS)
    await worker.turn()
    assert await counts(store) == {"alerts": 1, "alert_history": 1, "alert_transitions": 1, "alert_rule_history": 0}
    assert [row["resource"] for row in await store.fetch("SELECT resource FROM alerts")] == ["still open"]


async def test_an_alert_does_not_expire_while_its_history_is_written(store: Database) -> None:
    stored = stored_in(store)
    await process(stored, a_transition(), a_transition(Ended, window=1))
    (alert_id,) = [row["id"] for row in await store.fetch("SELECT id FROM alerts")]
    clock = FakeClock(NOW)
    worker = RetentionWorker(PostgresRetention(store), POLICY, clock, Metrics())
    clock.advance(91 * DAYS)
    entry = AlertHistoryEntry(id="late", alert_id=alert_id, kind=AlertHistoryKind.NOTIFIED, create_time=NOW)
    async with PostgresStore(store).transaction() as transaction:
        assert await transaction.alerts.insert_history([entry, replace(entry, id="x", alert_id="unknown")]) == 1
        await worker.turn()
    assert (await counts(store))["alerts"] == 1
    await worker.turn()
    assert (await counts(store))["alerts"] == (await counts(store))["alert_history"] == 0


async def incident_rows(store: Database) -> dict[str, list[str]]:
    return {
        "incidents": [row[0] for row in await store.fetch("SELECT id FROM incidents ORDER BY id")],
        "incident_alerts": [
            row[0] for row in await store.fetch("SELECT alert_id FROM incident_alerts ORDER BY alert_id")
        ],
        "incident_history": [
            row[0]
            for row in await store.fetch("SELECT DISTINCT incident_id FROM incident_history ORDER BY incident_id")
        ],
    }


async def test_incidents_expire_with_their_alerts_and_history_after_their_end_and_open_ones_never(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    opened = {name: open_incident(incident_alert(name), now=NOW) for name in ("a", "b", "c", "d", "open")}
    ended = {name: change.incident.id for name, change in opened.items() if name != "open"}
    async with PostgresStore(store).transaction() as transaction:
        revision = await transaction.incidents.lock()
        await transaction.incidents.save(list(opened.values()), revision, before={})
    await store.fetch(
        "UPDATE incidents SET state = 'RESOLVED', resolve_time = $1 WHERE id = ANY($2)", NOW, list(ended.values())
    )
    await store.fetch("UPDATE incidents SET resolve_time = $1 WHERE id = $2", NOW + 2 * DAYS, ended["d"])
    clock = FakeClock(NOW)
    worker = RetentionWorker(PostgresRetention(store), POLICY, clock, Metrics())
    clock.advance(89 * DAYS)
    await worker.turn()
    assert len((await incident_rows(store))["incidents"]) == 5
    clock.advance(2 * DAYS)
    await worker.turn()
    kept = sorted([opened["open"].incident.id, ended["d"]])
    assert await incident_rows(store) == {"incidents": kept, "incident_alerts": ["d", "open"], "incident_history": kept}


async def test_changes_of_services_expire(store: Database) -> None:
    for name, age in (("old", 91), ("new", 89)):
        change = ServiceChange(
            id=name, service="s", kind=ServiceChangeKind.OTHER, time=NOW - age * DAYS, create_time=NOW - age * DAYS
        )
        async with PostgresStore(store).transaction() as transaction:
            await transaction.changes.insert(change)
    await RetentionWorker(PostgresRetention(store), POLICY, FakeClock(NOW), Metrics()).turn()
    assert [row["id"] for row in await store.fetch("SELECT id FROM service_changes")] == ["new"]


async def test_the_newest_history_entry_of_a_rule_is_kept_as_long_as_the_rule(store: Database) -> None:
    async with PostgresStore(store).transaction() as transaction:
        for name in ("kept", "deleted"):
            found = rule(name)
            await transaction.rules.upsert(_at(found, await transaction.rules.take_revision()), RuleEdit.CREATED)
            await transaction.rules.upsert(_at(found, await transaction.rules.take_revision()), RuleEdit.UPDATED)
        await transaction.rules.delete(found, await transaction.rules.take_revision(), NOW)
    clock = FakeClock(NOW)
    clock.advance(91 * DAYS)
    await RetentionWorker(PostgresRetention(store), POLICY, clock, Metrics()).turn()
    rows = await store.fetch("SELECT rule_id, edit FROM alert_rule_history")
    assert [tuple(row) for row in rows] == [("id of kept", "UPDATED")]


async def test_expired_rows_are_found_by_an_index(store: Database) -> None:
    for statement in (
        retention._PURGE_INCIDENTS,
        retention._PURGE_ALERTS,
        retention._PURGE_RULE_HISTORY,
        retention._PURGE_TRANSITIONS,
        request_ids.PURGE_SQL,
        retention._PURGE_CHANGES,
    ):
        async with store.transaction() as connection:
            await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", NOW, 500))
            assert "_by_age" in plan or "incidents_resolved" in plan
