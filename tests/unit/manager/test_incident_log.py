"""What each watcher of incidents is sent, however slow it is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.alert_log import FellBehindError
from services.manager.core.incident import IncidentState, IncidentSummary, summary_of
from services.manager.core.incident_changes import open_incident
from services.manager.core.incident_log import IncidentCursor, IncidentLog, WatchedIncidents
from tests.fakes.transitions import NOW
from tests.unit.manager.test_incident_queries import alert


def summary(name: str, *, version: int = 1, is_open: bool = True, service: str = "shop") -> IncidentSummary:
    found = summary_of(open_incident(replace(alert(name, {}), service=service), now=NOW).incident)
    state = IncidentState.OPEN if is_open else IncidentState.RESOLVED
    ended = None if is_open else NOW + timedelta(hours=1)
    changed = replace(found.incident, id=name, version=version, state=state, resolve_time=ended)
    return replace(found, incident=changed)


def incident_log(max_resolved: int = 10) -> IncidentLog:
    return IncidentLog(lambda found: f"{found.incident.id} {found.incident.version}".encode(), max_resolved)


def taken(log: IncidentLog, cursor: IncidentCursor) -> list[str]:
    return [log.encoded(entry).decode() for entry in cursor.take(log)]


def test_a_watcher_is_sent_what_is_open_and_then_each_change() -> None:
    log = incident_log()
    log.put([(3, summary("a")), (3, summary("b"))], revision=4)
    cursor = IncidentCursor(WatchedIncidents(), start=log.revision)
    assert (taken(log, cursor), taken(log, cursor)) == (["a 1", "b 1"], [])
    log.put([(5, summary("c")), (6, summary("a", version=2, is_open=False))], revision=5)
    # A change that was committed after the revision was read is there as well.
    assert log.revision == 6
    assert taken(log, cursor) == ["c 1", "a 2"]


def test_a_version_is_sent_once_however_often_it_is_written() -> None:
    log = incident_log()
    cursor = IncidentCursor(WatchedIncidents(), start=0)
    log.put([(1, summary("a", version=2))], revision=1)
    assert taken(log, cursor) == ["a 2"]
    log.put([(2, summary("a", version=2))], revision=2)
    assert (taken(log, cursor), log.revision) == ([], 2)
    log.put([(3, summary("a", version=3))], revision=3)
    assert taken(log, cursor) == ["a 3"]


def test_a_watcher_is_sent_nothing_that_was_resolved_before_it_began() -> None:
    log = incident_log()
    log.put([(1, summary("a")), (2, summary("b", is_open=False))], revision=2)
    cursor = IncidentCursor(WatchedIncidents(), start=2)
    assert taken(log, cursor) == ["a 1"]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (WatchedIncidents(), ["a 1", "b 1"]),
        (WatchedIncidents(service="pay"), ["b 1"]),
        (WatchedIncidents(service="mail"), []),
        (WatchedIncidents(severities=(Severity.HIGH,)), ["a 1", "b 1"]),
        (WatchedIncidents(severities=(Severity.LOW,), service="pay"), []),
    ],
)
def test_a_watcher_is_sent_what_it_asked_for(wanted: WatchedIncidents, names: list[str]) -> None:
    log = incident_log()
    log.put([(1, summary("a")), (2, summary("b", service="pay"))], revision=2)
    assert taken(log, IncidentCursor(wanted, start=0)) == names


def test_bytes_are_made_once_for_all() -> None:
    log = incident_log()
    log.put([(1, summary("a"))], revision=1)
    (entry,) = log.after(0)
    assert log.encoded(entry) is log.encoded(entry)


def test_a_watcher_that_missed_a_resolved_incident_has_fallen_behind() -> None:
    log = incident_log(max_resolved=1)
    slow, fast = (IncidentCursor(WatchedIncidents(), start=0) for _ in range(2))
    log.put([(1, summary("a", is_open=False)), (2, summary("open"))], revision=2)
    assert taken(log, fast) == ["a 1", "open 1"]
    log.put([(3, summary("b", is_open=False))], revision=3)
    assert taken(log, fast) == ["b 1"]
    with pytest.raises(FellBehindError):
        slow.take(log)
    assert taken(log, IncidentCursor(WatchedIncidents(), start=3)) == ["open 1"]


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=20)


@given(STEPS)
def test_whoever_takes_when_knows_the_newest_version_of_all_in_the_end(steps: list[tuple[str, bool, bool]]) -> None:
    log = incident_log()
    cursor = IncidentCursor(WatchedIncidents(), start=0)
    newest: dict[str, str] = {}
    seen: dict[str, str] = {}
    for revision, (name, is_open, takes) in enumerate(steps, 1):
        log.put([(revision, summary(name, version=revision, is_open=is_open))], revision=revision)
        newest[name] = str(revision)
        if takes:
            seen |= dict(each.split() for each in taken(log, cursor))
    seen |= dict(each.split() for each in taken(log, cursor))
    assert seen == newest
