"""Changes of services: which of them an alert shows, and what may be recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest

from services.manager.core.dependency_graph import DependencyEdge, DependencyGraph
from services.manager.core.service_changes import (
    ChangeFilter,
    ChangeSearch,
    ServiceChange,
    ServiceChangeKind,
    change_problems,
    first_alerts,
)
from services.manager.core.transitions import TransitionContext, decide
from services.manager.rpc import changes as change_rpc
from services.manager.rpc.failures import TooManyChanges
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryChangeReader
from tests.fakes.transitions import NOW, a_subject, a_transition
from tocsin.changes.v1 import change_service_pb2 as pb
from tocsin.changes.v1.service_change_pb2 import ServiceChange as ChangeMessage

MINUTE = timedelta(minutes=1)
GRAPH = DependencyGraph(DependencyEdge(service=a, depends_on=b) for a, b in ("ab", "bc", "cd", "xa", "ac"))


def change(name: str, service: str = "a", *, minutes: float = 1) -> ServiceChange:
    """Return a change so many minutes before now."""
    time = NOW - minutes * MINUTE
    return ServiceChange(id=name, service=service, kind=ServiceChangeKind.DEPLOYMENT, time=time, create_time=time)


def shown(*changes: ServiceChange, service: str = "a") -> list[tuple[str, int]]:
    search = ChangeSearch.of([(service, NOW)], GRAPH)
    return [(each.change.id, each.distance) for each in search.related(service, NOW, changes)]


def test_the_nearest_changes_come_first_and_then_the_latest() -> None:
    changes = [
        change("far", "c", minutes=1),
        change("old", minutes=50),
        change("same", minutes=5),
        change("new", minutes=5),
        change("beside", "b", minutes=2),
    ]
    assert shown(*changes) == [("same", 0), ("new", 0), ("old", 0), ("far", 1), ("beside", 1)]
    assert shown(change("two", "c"), service="x") == [("two", 2)]


def test_only_the_hour_before_it_fired_and_two_edges_are_shown() -> None:
    assert shown(change("first", minutes=60), change("last", minutes=0)) == [("last", 0), ("first", 0)]
    assert shown(change("early", minutes=60.1), change("late", minutes=-0.1)) == []
    assert shown(change("three edges", "d"), change("dependent", "x"), change("other", "z")) == [("three edges", 2)]
    assert shown(change("d", "d"), service="x") == []


def test_no_more_than_ten_changes_are_shown() -> None:
    assert len(shown(*(change(f"{n}", minutes=n) for n in range(20)))) == 10


def test_a_search_is_for_all_alerts_at_once() -> None:
    search = ChangeSearch.of([("x", NOW), ("d", NOW - 5 * MINUTE), ("", NOW)], GRAPH)
    assert search.services == {"x", "a", "b", "c", "d"}
    assert (search.after, search.until) == (NOW - 65 * MINUTE, NOW)
    assert [
        each.change.id
        for each in search.related("d", NOW - 5 * MINUTE, [change("1", "d"), change("9", "d", minutes=9)])
    ] == ["9"]
    assert search.related("", NOW, [change("1", "d")]) == ()
    assert ChangeSearch.of([], GRAPH).services == frozenset()


def test_neither_a_hostile_name_nor_the_beginning_of_time_is_looked_for() -> None:
    beginning = datetime.min.replace(tzinfo=UTC)
    search = ChangeSearch.of([("a\0", NOW), ("d", beginning)], GRAPH)
    assert search.services == {"d"}
    assert search.after < search.until
    assert search.related("d", beginning, [change("1", "d")]) == ()


def test_an_alert_is_about_the_service_of_its_labels() -> None:
    unknown = replace(a_subject("x"), labels={})
    _, outcomes = decide(TransitionContext(), [a_transition(subject=each) for each in (a_subject("a"), unknown)], NOW)
    assert [outcome.change.alert.service for outcome in outcomes if outcome.change] == ["a", ""]


def test_a_service_with_very_many_dependencies_shows_those_of_the_nearest() -> None:
    graph = DependencyGraph(DependencyEdge(service="hub", depends_on=f"d{n:04}") for n in range(600))
    found = ChangeSearch.of([("hub", NOW)], graph).services
    assert len(found) == 501
    assert "d0499" in found
    assert "d0500" not in found


@pytest.mark.parametrize(
    ("wrong", "field", "text"),
    [
        ({"service": " "}, "service", "is required"),
        ({"service": "s" * 257}, "service", "at most 256"),
        ({"service": "s\n"}, "service", "control characters"),
        ({"version": "v" * 257}, "version", "at most 256"),
        ({"actor": "v" * 257}, "actor", "at most 256"),
        ({"link": "javascript:x"}, "link", 'spaces and quotes, found "javascript:x"'),
        ({"time": NOW + 6 * MINUTE}, "time", "at most five minutes after now"),
    ],
)
def test_what_may_not_be_recorded_is_named(wrong: dict[str, object], field: str, text: str) -> None:
    ((named, description),) = change_problems(replace(change("c"), **wrong), now=NOW)  # type: ignore[arg-type]
    assert named == field
    assert text in description


def test_a_change_may_have_all_fields_and_a_clock_that_is_a_little_ahead() -> None:
    full = replace(change("c"), version="1", actor="ci", link="https://ci.example/1", time=NOW + 4 * MINUTE)
    assert change_problems(full, now=NOW) == []


def test_a_filter_selects_by_service_kind_and_time() -> None:
    one = change("c")
    assert ChangeFilter().selects(one)
    assert ChangeFilter(service="a", kinds=(one.kind,), after=one.time, before=NOW).selects(one)
    for wanted in (
        ChangeFilter(service="b"),
        ChangeFilter(kinds=(ServiceChangeKind.OTHER,)),
        ChangeFilter(after=NOW),
        ChangeFilter(before=one.time),
    ):
        assert not wanted.selects(one)


def test_an_incident_shows_the_changes_of_all_its_services_each_once() -> None:
    alerts = [("x", NOW), ("a", NOW - 30 * MINUTE), ("a", NOW), ("", NOW), ("z", NOW - 30 * MINUTE)]
    first = first_alerts(alerts)
    assert first == [("a", NOW - 30 * MINUTE), ("z", NOW - 30 * MINUTE), ("x", NOW)]
    search = ChangeSearch.of(first, GRAPH)
    changes = [
        change("near x", "x", minutes=40),
        change("near a", "a", minutes=50),
        change("beside", "b", minutes=45),
        change("after", "z", minutes=20),
        change("early", "z", minutes=91),
        change("late of a", "a", minutes=20),
    ]
    # What is near one of them is shown as near, and what came after one may have come before another.
    assert [(each.change.id, each.distance) for each in search.related_to_any(first, changes)] == [
        ("near x", 0),
        ("near a", 0),
        ("late of a", 1),
        ("beside", 1),
    ]
    nearer_later = ChangeSearch.of([("x", NOW), ("a", NOW)], GRAPH)
    assert [each.distance for each in nearer_later.related_to_any([("x", NOW), ("a", NOW)], [change("1", "b")])] == [1]


def test_an_incident_with_very_many_services_shows_twenty_changes_of_those_that_alerted_first() -> None:
    alerts = [(f"s{n:03}", NOW + n * MINUTE / 60) for n in range(150)]
    first = first_alerts(reversed(alerts))
    assert first == alerts[:100]
    search = ChangeSearch.of(first, GRAPH)
    assert len(search.related_to_any(first, [change(f"{n}", name) for n, (name, _) in enumerate(alerts)])) == 20


async def test_a_tenant_has_a_limit_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_rpc, "MAX_CHANGES", 2)
    store = MemoryStore()
    rpc = change_rpc.ChangeRpc(store, MemoryChangeReader(store), FakeClock(NOW), lambda: str(uuid4()))
    kind = ChangeMessage.DEPLOYMENT
    recorded = [pb.RecordChangeRequest(change=ChangeMessage(service=each, kind=kind)) for each in "abc"]
    recorded[1].request_id = str(uuid4())
    for request in recorded[:2]:
        await rpc.RecordChange(request, None)
    with pytest.raises(TooManyChanges) as full:
        await rpc.RecordChange(recorded[2], None)
    assert (full.value.code, str(full.value)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "there are 2 changes already, which is the maximum",
    )
    # What was recorded is answered again.
    assert (await rpc.RecordChange(recorded[1], None)).change.service == "b"
