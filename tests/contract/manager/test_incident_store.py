"""What the manager relies on from the store of its incidents, in memory and in PostgreSQL alike."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.domain.severity import Severity
from services.manager.adapters.postgres import incidents
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.incident import (
    IncidentFilter,
    IncidentState,
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
from services.manager.ports.readers import Page
from tests.contract.manager.incident_stores import (
    RELATED,
    SETTLE,
    Stored,
    alert,
    decide_alerts,
    load,
    memory_stored,
    postgres_stored,
    save,
    seen,
)
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW


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
        return memory_stored()


@pytest.mark.integration
class TestPostgresIncidents(IncidentContract):
    @pytest.fixture
    async def stored(self, database: str) -> AsyncIterator[Stored]:
        async with postgres_stored(database) as stored:
            yield stored

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
