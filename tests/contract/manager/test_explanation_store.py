"""What explanations rely on from the store, in memory and in PostgreSQL alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.chassis.migrations import migrate
from services.chassis.postgres import connect
from services.chassis.settings import PostgresSettings, Secret
from services.domain.severity import Severity
from services.manager.adapters.postgres.explanations import PostgresExplanationReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert, AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_changes import AlertChange, open_alert
from services.manager.core.alert_lifecycle import AlertState, AlertStatus, Ended
from services.manager.core.explanation import RuleRevision
from services.manager.core.incident import IncidentAlert, IncidentHistoryKind
from services.manager.core.incident_changes import open_incident
from services.manager.core.incident_merges import merge_incidents
from services.manager.core.rule import RuleEdit, StoredRule
from services.manager.ports.readers import ExplanationReader
from services.manager.ports.tables import Store
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.explanations import MemoryExplanationReader
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW, a_subject, a_transition

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    explanations: ExplanationReader


def an_alert(resource: str, *, revision: int = 1) -> Alert:
    transition = a_transition(subject=a_subject(resource), revision=revision)
    status = AlertStatus(state=AlertState.FIRING, last_firing=transition.evaluation)
    return open_alert(transition.subject, transition.id, status, now=NOW).alert


async def put(stored: Stored, *alerts: Alert) -> None:
    async with stored.store.transaction() as transaction:
        await transaction.alerts.save([(AlertChange(alert=alert), []) for alert in alerts])


class ExplanationContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_the_firing_and_the_last_firing_name_their_revisions(self, stored: Stored) -> None:
        assert await stored.explanations.revisions([]) == {}
        fired = a_transition(subject=a_subject("shop"), revision=3)
        async with stored.store.transaction() as transaction:
            await transaction.transitions.insert([fired])
        edited = replace(an_alert("shop", revision=3), status=an_alert("shop", revision=5).status)
        other = an_alert("search", revision=7)
        found = await stored.explanations.revisions([edited, other])
        # Of the second one no transition is stored.
        assert found == {edited.id: (3, 5), other.id: (7,)}

    async def test_the_end_names_the_revision_by_which_it_was_judged(self, stored: Stored) -> None:
        ended = a_transition(Ended, subject=a_subject("shop"), window=3, revision=8)
        async with stored.store.transaction() as transaction:
            await transaction.transitions.insert([ended])
        fired = an_alert("shop", revision=3)
        resolved = replace(fired, resolve_time=ended.evaluation.time)
        assert await stored.explanations.revisions([resolved]) == {fired.id: (3, 8)}
        # By hand, at another time.
        resolved = replace(fired, resolve_time=NOW + MINUTE)
        assert await stored.explanations.revisions([resolved]) == {fired.id: (3,)}

    async def test_what_rules_said_at_a_revision_is_found(self, stored: Stored) -> None:
        draft = Draft(
            id="r",
            name="Slow \N{SNOWMAN}",
            type=RuleType.CUSTOM,
            scope='service == "shop"',
            filter="response_time > 500",
            group_by=["service", "host"],
            condition="count > threshold",
            threshold=0.5,
            window=timedelta(days=1),
            severity=Severity.HIGH,
        )
        revisions = []
        for edit, changed in ((RuleEdit.CREATED, draft), (RuleEdit.UPDATED, replace(draft, threshold=7))):
            async with stored.store.transaction() as transaction:
                revision = await transaction.rules.take_revision()
                rule = complete(replace(changed, revision=revision, selection_revision=1), is_stored=True)
                stored_rule = StoredRule(rule=rule, create_time=NOW, update_time=NOW + revision * MINUTE)
                await transaction.rules.upsert(stored_rule, edit)
                revisions.append(revision)
        async with stored.store.transaction() as transaction:
            await transaction.rules.delete(stored_rule, await transaction.rules.take_revision(), NOW)
        found = await stored.explanations.rules([*revisions, revisions[-1] + 1, 99])
        assert list(found) == revisions
        assert found[revisions[0]] == RuleRevision(
            rule_id="r",
            revision=revisions[0],
            edit_time=NOW + revisions[0] * MINUTE,
            name="Slow \N{SNOWMAN}",
            scope='service == "shop"',
            filter="response_time > 500",
            condition="count > threshold",
            threshold=0.5,
            window=timedelta(days=1),
            group_by=("service", "host"),
        )
        assert found[revisions[1]].threshold == 7

    async def test_incidents_that_were_merged_are_found_too(self, stored: Stored) -> None:
        members = [
            IncidentAlert(
                id=name,
                rule_name="r",
                service="",
                resource="x",
                severity=Severity.LOW,
                labels={},
                fire_time=NOW,
            )
            for name in "ab"
        ]
        opened = [open_incident(member, now=NOW + place * MINUTE) for place, member in enumerate(members)]
        one, other = (each.incident for each in opened)
        async with stored.store.transaction() as transaction:
            await transaction.incidents.save(opened, await transaction.incidents.lock(), before={})
        changes = merge_incidents(one, other, actor="", comment="", now=NOW + 9 * MINUTE)
        async with stored.store.transaction() as transaction:
            revision = await transaction.incidents.lock()
            await transaction.incidents.save(changes, revision, before={})
        assert await stored.explanations.incident_ids("b") == [one.id, other.id]
        assert await stored.explanations.incident_ids("a") == [one.id]
        assert await stored.explanations.incident_ids("unknown") == []
        ids = [one.id, other.id]
        first = (await stored.explanations.own_history("b", ids))[0]
        assert (first.incident_id, first.kind) == (other.id, IncidentHistoryKind.OPENED)
        assert {each.alert_id for each in await stored.explanations.own_history("a", ids)} == {"a"}
        assert await stored.explanations.own_history("b", []) == []

    async def test_the_newest_deliveries_are_found_the_oldest_first(self, stored: Stored) -> None:
        alerts = [an_alert(name) for name in ("shop", "search")]
        await put(stored, *alerts)
        kinds = [AlertHistoryKind.NOTIFIED, AlertHistoryKind.REPEATED, AlertHistoryKind.NOTIFICATION_FAILED]
        entries = [
            AlertHistoryEntry(
                id=f"e{n}", alert_id=alerts[n % 2].id, kind=kinds[n % 3], create_time=NOW + n * MINUTE, channel="c"
            )
            for n in range(12)
        ]
        async with stored.store.transaction() as transaction:
            await transaction.alerts.insert_history(entries)
        deliveries = [entry for entry in entries if entry.kind is not AlertHistoryKind.REPEATED]
        ids = [alert.id for alert in alerts]
        assert await stored.explanations.deliveries(ids, 100) == deliveries
        assert await stored.explanations.deliveries(ids, 3) == deliveries[-3:]
        of_one = [entry for entry in deliveries if entry.alert_id == ids[0]]
        assert await stored.explanations.deliveries(ids[:1], 100) == of_one


class TestMemoryExplanations(ExplanationContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryExplanationReader(store))


@pytest.mark.integration
class TestPostgresExplanations(ExplanationContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresExplanationReader(opened))
