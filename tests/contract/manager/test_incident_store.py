"""What the manager relies on from the store of its incidents, in memory and in PostgreSQL alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from services.chassis.postgres import connect, migrate
from services.chassis.settings import PostgresSettings, Secret
from services.contract.timestamps import timestamp_of
from services.contract.topics import NOTIFICATIONS
from services.domain.severity import Severity
from services.domain.trace_context import TraceHeaders
from services.manager.adapters.postgres import incidents
from services.manager.adapters.postgres.incidents import PostgresIncidentReader
from services.manager.adapters.postgres.store import PostgresStore, PostgresTransaction
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.flapping import FlappingSettings
from services.manager.core.incident import (
    AlertBundle,
    Correlation,
    CorrelationReason,
    Incident,
    IncidentAlert,
    IncidentFilter,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentState,
    WithheldReason,
    Withholding,
    summary_of,
)
from services.manager.core.incident_changes import (
    IncidentChange,
    acknowledge,
    add_comment,
    assign,
    end_alert,
    join,
    open_incident,
    resolve_incident,
)
from services.manager.core.incident_merges import merge_incidents, split_incident
from services.manager.core.incident_notifications import (
    FILE_ROUTE,
    NotificationContext,
    plan_notifications,
)
from services.manager.core.routing_tree import AlertRoute
from services.manager.core.transitions import decide
from services.manager.ports.incidents import ReturnedCanary
from services.manager.ports.readers import IncidentReader, Page
from services.manager.ports.tables import Store
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW, START, a_subject, a_transition
from tocsin.notifications.v1.notification_pb2 import Notification

SETTLE = timedelta(minutes=2)
LONG_AGO = START - timedelta(days=999)
RELATED = Correlation(
    incident_id="i",
    reason=CorrelationReason.DEPENDENCY,
    path=("shop", "data base"),
    labels={"team": "a", "nul": "before\0after"},
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    incidents: IncidentReader


def alert(name: str, service: str = "shop") -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name='"quotes" and\nlines',
        service=service,
        resource=f"service={service} \N{SNOWMAN}",
        severity=Severity.HIGH,
        labels={"team": "a", "": ""},
        fire_time=NOW,
    )


async def save(stored: Stored, *changes: IncidentChange, before: Sequence[Incident] = ()) -> int:
    """Write changes at one revision, and return it."""
    async with stored.store.transaction() as transaction:
        revision = await transaction.incidents.lock()
        await transaction.incidents.save(changes, revision, before={each.id: each for each in before})
    return revision


async def load(stored: Stored, *names: str) -> dict[str, Incident]:
    async with stored.store.transaction() as transaction:
        return dict(await transaction.incidents.load(names))


async def decide_alerts(
    stored: Stored,
    kind: type[Fired] | type[Ended],
    *resources: str,
    headers: TraceHeaders = (),
    is_correlated: bool = False,
) -> None:
    """Let alerts fire or end."""
    transitions = [a_transition(kind, subject=a_subject(resource)) for resource in resources]
    async with stored.store.transaction() as transaction:
        context = await transaction.alerts.load_for_update(transitions, expected_new=())
        await transaction.transitions.insert(transitions)
        _, outcomes = decide(context, transitions, NOW)
        changes = [(change, headers) for outcome in outcomes for change in outcome.changes]
        await transaction.alerts.save(changes, is_correlated=is_correlated)


async def seen(stored: Stored, limit: int = 10, *, mark: bool = False) -> list[tuple[str, bool]]:
    async with stored.store.transaction() as transaction:
        found = await transaction.incidents.list_seen(limit)
        if mark:
            await transaction.incidents.mark_seen([each.alert for each in found])
    return [(each.alert.subject.resource, each.is_stored) for each in found]


class IncidentContract(ABC):
    @pytest.fixture
    @abstractmethod
    def stored(self) -> Stored: ...

    async def test_alerts_that_are_correlated_where_they_change_are_not_seen_again(self, stored: Stored) -> None:
        await decide_alerts(stored, Fired, "a", is_correlated=True)
        await decide_alerts(stored, Fired, "b")
        assert await seen(stored) == [("b", False)]
        await decide_alerts(stored, Ended, "a", "b", is_correlated=True)
        assert await seen(stored) == []

    async def test_which_alerts_have_an_incident_that_is_stored(self, stored: Stored) -> None:
        opened = open_incident(alert("a"), now=NOW)
        await save(stored, opened)
        async with stored.store.transaction() as transaction:
            assert await transaction.incidents.list_stored(["a", "b"]) == {"a"}
            assert await transaction.incidents.list_stored([]) == frozenset()

    async def test_an_incident_comes_back_as_it_was(self, stored: Stored) -> None:
        opened = open_incident(alert("a"), now=NOW)
        joined = join(opened.incident, alert("b", ""), RELATED, now=NOW)
        taken = acknowledge(joined.incident, actor="ann", comment="mine", until=NOW + SETTLE, now=NOW)
        given = assign(taken.incident, "bob", actor="ann", comment="", now=NOW)
        whole = replace(given, history=opened.history + joined.history + taken.history + given.history)
        assert await save(stored, whole) == 1
        found = await load(stored, whole.incident.id, "unknown")
        known = replace(RELATED, labels={"team": "a", "nul": "before\N{REPLACEMENT CHARACTER}after"})
        if isinstance(stored.store, MemoryStore):
            known = RELATED
        expected = replace(
            whole.incident,
            alerts={**whole.incident.alerts, "b": replace(whole.incident.alerts["b"], correlation=known)},
        )
        assert found == {expected.id: expected}
        assert list(found[expected.id].alerts) == ["a", "b"]
        read = await stored.incidents.get(expected.id)
        assert read is not None
        assert read[0] == expected
        assert [entry.kind for entry in read[1]] == [entry.kind for entry in whole.history]
        assert read[1][1].correlation == known
        assert (read[1][2].actor, read[1][2].comment) == ("ann", "mine")
        assert await stored.incidents.get("unknown") is None

    async def test_the_comments_of_an_incident_are_counted(self, stored: Stored) -> None:
        opened, other = open_incident(alert("a"), now=NOW), open_incident(alert("b"), now=NOW)
        taken = acknowledge(opened.incident, actor="ann", comment="mine", until=None, now=NOW)
        first = add_comment(taken.incident, actor="ann", comment="one", now=NOW)
        second = add_comment(first.incident, actor="ben", comment="two", now=NOW)
        history = opened.history + taken.history + first.history + second.history
        await save(stored, replace(second, history=history), other)
        async with stored.store.transaction() as transaction:
            counts = [await transaction.incidents.count_comments(each.incident.id) for each in (second, other)]
        assert counts == [2, 0]

    async def test_what_receivers_know_comes_back(self, stored: Stored) -> None:
        routes = (
            AlertRoute(path="root/0", receivers=("slack", "mail"), policy="p", bundling_interval=2 * SETTLE),
            AlertRoute(path="root/1", receivers=("pager",), inhibits_dependents=True),
        )
        opened = open_incident(replace(alert("a"), routes=routes, file_route="x"), now=NOW)
        silence = Withholding(reason=WithheldReason.SILENCED, by="s", comment="nul \0 \N{SNOWMAN}")
        joined = join(opened.incident, replace(alert("b"), withheld_by=(silence,)), RELATED, now=NOW)
        ended = end_alert(joined.incident, "a", settle=SETTLE, now=NOW)
        incident = replace(ended.incident, dedup_key="key", flapping=frozenset({("rule \0", "resource")}))
        planned = plan_notifications(incident, NotificationContext(flapping=FlappingSettings(count=1)), now=NOW)
        assert planned.incident.receivers.keys() == {"slack", "mail", "pager"}
        assert planned.incident.notify_time is not None
        await save(stored, planned)
        found = (await load(stored, incident.id))[incident.id]
        stripped = {"b": replace(planned.incident.alerts["b"], correlation=found.alerts["b"].correlation)}
        assert found == replace(planned.incident, alerts={**planned.incident.alerts, **stripped})
        read = await stored.incidents.get(incident.id)
        assert read is not None
        notified = [entry for entry in read[1] if entry.kind is IncidentHistoryKind.NOTIFIED]
        assert tuple(notified) == planned.history[-len(notified) :]
        assert notified[0].receivers == ("slack", "mail", "pager")

    async def test_news_are_alerts_that_changed_and_incidents_that_others_wrote(self, stored: Stored) -> None:
        async def has_news(revision: int) -> bool:
            async with stored.store.transaction() as transaction:
                return await transaction.incidents.has_news(revision)

        assert not await has_news(0)
        await save(stored, open_incident(alert("a"), now=NOW))
        assert await has_news(0)
        assert not await has_news(1)
        await decide_alerts(stored, Fired, "b")
        assert await has_news(1)
        await seen(stored, mark=True)
        assert not await has_news(1)

    async def test_notifications_that_have_reached_nobody_are_taken_once(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            await transaction.notifications.insert_exhausted({})
            await transaction.notifications.insert_exhausted({"a": "one", "b": "one", "c": "other"})
            await transaction.notifications.insert_exhausted({"a": "one"})
        async with stored.store.transaction() as transaction:
            assert await transaction.incidents.has_news(0)
            assert await transaction.notifications.take_exhausted(2) == {"one": frozenset({"a", "b"})}
            assert await transaction.notifications.take_exhausted(2) == {"other": frozenset({"c"})}
            assert await transaction.notifications.take_exhausted(2) == {}
            assert not await transaction.incidents.has_news(0)

    async def test_what_a_notification_tells_besides_its_alert_is_found_by_its_id(self, stored: Stored) -> None:
        opened = open_incident(alert("a"), now=NOW)
        bundle = AlertBundle(fired=("b", "c"), ended=("d",))
        entries = [
            IncidentHistoryEntry(
                id=name,
                incident_id=opened.incident.id,
                kind=IncidentHistoryKind.NOTIFIED,
                create_time=NOW,
                notification_id=name,
                bundle=each,
            )
            for name, each in (("n1", bundle), ("n2", AlertBundle()), ("n3", AlertBundle(ended=("e",))))
        ]
        await save(stored, replace(opened, history=(*opened.history, *entries)))
        async with stored.store.transaction() as transaction:
            assert await transaction.notifications.load_bundles([]) == {}
            found = await transaction.notifications.load_bundles(["n1", "n2", "unknown"])
        assert found == {"n1": bundle}
        read = await stored.incidents.get(opened.incident.id)
        assert read is not None
        assert [entry.bundle for entry in read[1][-3:]] == [each.bundle for each in entries]

    async def test_notifications_are_about_alerts_with_their_traces(self, stored: Stored) -> None:
        await decide_alerts(stored, Fired, "b", headers=[("traceparent", b"t")])
        async with stored.store.transaction() as transaction:
            (about,) = await transaction.incidents.list_seen(10)
        assert about.headers == [("traceparent", b"t")]
        member = replace(alert(about.alert.id), routes=(FILE_ROUTE,))
        planned = plan_notifications(open_incident(member, now=NOW).incident, NotificationContext(), now=NOW)
        async with stored.store.transaction() as transaction:
            found = await transaction.notifications.load_alerts([about.alert.id, "unknown"])
            assert found == {about.alert.id: about}
            assert await transaction.notifications.load_alerts([]) == {}
            await transaction.notifications.insert([])
            await transaction.notifications.insert([(each, about) for each in planned.notifications])

    async def test_a_change_replaces_what_was_stored_and_adds_to_the_history(self, stored: Stored) -> None:
        opened = open_incident(alert("a"), now=NOW)
        await save(stored, opened)
        ended = end_alert(opened.incident, "a", settle=SETTLE, now=NOW)
        await save(stored, ended, before=[opened.incident])
        again = resolve_incident(ended.incident, actor="ann", comment="", now=NOW)
        assert await save(stored, again, before=[ended.incident]) == 3
        assert await load(stored, opened.incident.id) == {opened.incident.id: again.incident}
        read = await stored.incidents.get(opened.incident.id)
        assert read is not None
        assert len(read[1]) == 3

    async def test_alerts_move_between_incidents(self, stored: Stored) -> None:
        one, other = open_incident(alert("a"), now=NOW), open_incident(alert("b"), now=NOW)
        await save(stored, one, other)
        merged, ended = merge_incidents(one.incident, other.incident, actor="ann", comment="", now=NOW)
        await save(stored, merged, ended, before=[one.incident, other.incident])
        after = await load(stored, one.incident.id, other.incident.id)
        assert set(after[one.incident.id].alerts) == {"a", "b"}
        assert after[other.incident.id] == ended.incident
        left, new = split_incident(merged.incident, {"a"}, actor="ann", comment="", settle=SETTLE, now=NOW)
        assert new is not None
        await save(stored, left, new, before=[merged.incident])
        after = await load(stored, one.incident.id, new.incident.id)
        assert [set(each.alerts) for each in (after[one.incident.id], after[new.incident.id])] == [{"b"}, {"a"}]

    async def test_what_others_have_written_since_is_listed(self, stored: Stored) -> None:
        one, other = open_incident(alert("a"), now=NOW), open_incident(alert("b"), now=NOW)
        await save(stored, one)
        await save(stored, other)
        done = resolve_incident(one.incident, actor="", comment="", now=NOW)
        assert await save(stored, done, before=[one.incident]) == 3

        async def changed(revision: int, seconds: int = 0) -> set[str]:
            after = NOW + timedelta(seconds=seconds)
            async with stored.store.transaction() as transaction:
                return {each.id for each in await transaction.incidents.list_changed(revision, resolved_after=after)}

        async with stored.store.transaction() as transaction:
            assert await transaction.incidents.revision() == 3
        assert await changed(-1) == await changed(1) == {one.incident.id, other.incident.id}
        assert await changed(2) == {one.incident.id}
        assert await changed(-1, 1) == {other.incident.id}
        assert await changed(3) == set()

    async def test_alerts_are_seen_until_this_version_of_them_is_marked(self, stored: Stored) -> None:
        await decide_alerts(stored, Fired, "a", "b")
        assert sorted(await seen(stored)) == [("a", False), ("b", False)]
        assert len(await seen(stored, 1)) == 1
        await seen(stored, mark=True)
        assert await seen(stored) == []
        await decide_alerts(stored, Ended, "b")
        async with stored.store.transaction() as transaction:
            (about_b,) = await transaction.incidents.list_seen(10)
        await save(stored, open_incident(alert(about_b.alert.id), now=NOW))
        assert await seen(stored, mark=True) == [("b", True)]
        assert await seen(stored) == []

    async def test_lists_are_newest_first_in_pages_and_filtered(self, stored: Stored) -> None:
        names = ["a", "b", "c"]
        opened = [open_incident(alert(name, name), now=NOW + n * SETTLE) for n, name in enumerate(names)]
        done = resolve_incident(opened[0].incident, actor="", comment="", now=NOW)
        await save(stored, done, *opened[1:])
        expected = [summary_of(each.incident) for each in reversed([done, *opened[1:]])]
        expected = [replace(each, incident=replace(each.incident, alerts={})) for each in expected]

        async def listed(wanted: IncidentFilter | None = None, page: Page | None = None) -> list[str]:
            rows = await stored.incidents.list_page(wanted or IncidentFilter(), page or Page())
            assert all(row in expected for row in rows)
            return [row.services[0] for row in rows]

        assert await listed() == ["c", "b", "a"]
        last = opened[1].incident
        assert await listed(page=Page(size=1)) == ["c", "b"]
        assert await listed(page=Page(size=2, after=(last.create_time.isoformat(), last.id))) == ["a"]
        assert await listed(IncidentFilter(states=(IncidentState.OPEN,))) == ["c", "b"]
        assert await listed(IncidentFilter(severities=(Severity.LOW,))) == []
        assert await listed(IncidentFilter(service="b")) == ["b"]
        assert await listed(IncidentFilter(alert_id="c")) == ["c"]
        assert await listed(IncidentFilter(id_prefix=last.id[:13])) == ["b"]

    async def test_what_was_written_after_a_revision_comes_in_the_order_of_revisions(self, stored: Stored) -> None:
        opened = {name: open_incident(alert(name), now=NOW) for name in "abc"}
        assert await stored.incidents.revision() == 0
        first = await save(stored, opened["b"], opened["a"])
        second = await save(stored, opened["c"])
        done = resolve_incident(opened["a"].incident, actor="", comment="", now=NOW)
        third = await save(stored, done, before=[opened["a"].incident])
        assert await stored.incidents.revision() == third

        async def changed(revision: int, *, open_only: bool = False) -> list[tuple[int, str, bool]]:
            rows = await stored.incidents.list_changed(revision, open_only=open_only)
            return [(written, row.incident.cause, row.incident.is_open) for written, row in rows]

        assert await changed(0) == [(first, "b", True), (second, "c", True), (third, "a", False)]
        assert await changed(0, open_only=True) == [(first, "b", True), (second, "c", True)]
        assert await changed(second) == [(third, "a", False)]
        assert await changed(third) == []

    async def test_the_labels_of_alerts_come_once_and_only_with_these_values(self, stored: Stored) -> None:
        shop, pay = {"team": "shop", "": "", "nul": "a\0b"}, {"team": "pay"}
        opened = open_incident(replace(alert("a"), labels=shop), now=NOW)
        whole = opened.incident
        for name, labels in (("b", shop), ("c", pay)):
            whole = join(whole, replace(alert(name), labels=labels), RELATED, now=NOW).incident
        other = open_incident(replace(alert("d"), labels={}), now=NOW).incident
        changes = [IncidentChange(incident=each, reason=opened.reason) for each in (whole, other)]
        await save(stored, *changes)

        async def labels_of(equal: dict[str, str]) -> dict[str, list[str]]:
            found = await stored.incidents.list_labels([whole.id, other.id], equal)
            return {name: sorted(each.get("team", "") for each in labels) for name, labels in found.items()}

        assert await labels_of({}) == {whole.id: ["pay", "shop"], other.id: [""]}
        assert await labels_of({"team": "pay"}) == {whole.id: ["pay"]}
        assert await labels_of({"team": "none"}) == {}
        assert await stored.incidents.list_labels([], {}) == {}


class TestMemoryIncidents(IncidentContract):
    @pytest.fixture
    def stored(self) -> Stored:
        store = MemoryStore()
        return Stored(store, MemoryIncidentReader(store))


@pytest.mark.integration
class TestPostgresIncidents(IncidentContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        settings = PostgresSettings(database_url=Secret(database))
        await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
        async with connect(settings, schema=SCHEMA) as opened:
            yield Stored(PostgresStore(opened), PostgresIncidentReader(opened))

    async def test_who_finds_the_incidents_held_does_not_wait(self, stored: Stored) -> None:
        async with stored.store.transaction() as one:
            assert await one.incidents.try_lock() == 1
            async with stored.store.transaction() as other:
                assert await other.incidents.try_lock() is None
        async with stored.store.transaction() as other:
            assert await other.incidents.try_lock() == 1

    async def test_very_many_incidents_are_read_in_parts(self, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(incidents, "_MAX_READ", 2)
        opened = [open_incident(alert(name), now=NOW) for name in "abcde"]
        await save(stored, *opened)
        async with stored.store.transaction() as transaction:
            read = await transaction.incidents.list_changed(-1, resolved_after=NOW)
        assert {each.id: each for each in read} == {each.incident.id: each.incident for each in opened}

    async def test_canaries_are_in_the_outbox_under_their_own_key(self, stored: Stored) -> None:
        async with stored.store.transaction() as transaction:
            assert isinstance(transaction, PostgresTransaction)
            await transaction.notifications.insert_canaries([ReturnedCanary(time=NOW, headers=[("traceparent", b"t")])])
            (row,) = await transaction.notifications.connection.fetch("SELECT * FROM outbox")
        assert (row["topic"], row["key"]) == (NOTIFICATIONS, b"tocsin-canary")
        assert Notification.FromString(row["value"]) == Notification(canary_time=timestamp_of(NOW))
        assert (row["header_names"], row["header_values"]) == (["traceparent"], [b"t"])

    async def test_notifications_are_in_the_outbox_by_their_subject(self, stored: Stored) -> None:
        await self.test_notifications_are_about_alerts_with_their_traces(stored)
        async with stored.store.transaction() as transaction:
            assert isinstance(transaction, PostgresTransaction)
            (row,) = await transaction.notifications.connection.fetch("SELECT * FROM outbox")
        message = Notification.FromString(row["value"])
        assert row["key"].decode() == message.subject_id == message.incident.incident.id
        assert (message.kind, message.alert.resource, message.sequence) == (Notification.FIRING, "b", 1)
        assert (row["header_names"], row["header_values"]) == (["traceparent"], [b"t"])
