"""What the watchers of alerts are sent."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.alert import Alert, AlertFilter
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.core.alert_log import AlertCursor, AlertLog, FellBehindError
from tests.fakes.transitions import NOW, START, WINDOW, a_subject, a_transition

ANY = AlertFilter()


def alert(name: str, version: int = 1, state: AlertState = AlertState.FIRING) -> Alert:
    status = AlertStatus(state=state, last_firing=a_transition().evaluation)
    return Alert(id=name, subject=a_subject(name), status=status, fire_time=START, update_time=NOW, version=version)


def log_of(*alerts: Alert, max_resolved: int = 100) -> AlertLog:
    log = AlertLog(lambda each: each.id.encode(), max_resolved)
    for each in alerts:
        log.put(each)
    return log


def drained(cursor: AlertCursor, log: AlertLog) -> list[Alert]:
    found: list[Alert] = []
    while (entry := cursor.next(log)) is not None:
        found.append(entry.alert)
    return found


def test_the_newest_version_of_each_alert_is_sent_once() -> None:
    log, cursor = log_of(), AlertCursor(ANY, start=0)
    for each in (alert("a"), alert("b"), alert("a", 3), alert("a", 2)):
        log.put(each)
    assert drained(cursor, log) == [alert("b"), alert("a", 3)]
    log.put(alert("a", 3))
    assert drained(cursor, log) == []
    log.put(alert("a", 4, AlertState.RESOLVED))
    assert drained(cursor, log) == [alert("a", 4, AlertState.RESOLVED)]


def test_what_the_filter_does_not_select_is_not_sent() -> None:
    log = log_of(alert("b"))
    cursor = AlertCursor(AlertFilter(resource="a"), start=log.position)
    assert drained(cursor, log) == []
    assert cursor.position == log.position


def test_what_was_resolved_before_the_watch_is_not_sent() -> None:
    log = log_of(alert("a"), alert("b", 2, AlertState.RESOLVED))
    assert drained(AlertCursor(ANY, start=log.position), log) == [alert("a")]
    assert drained(AlertCursor(ANY, start=0), log) == [alert("a"), alert("b", 2, AlertState.RESOLVED)]


def test_a_slow_watcher_falls_behind_when_a_resolved_alert_that_it_was_not_sent_is_dropped() -> None:
    log = log_of(*(alert(name) for name in "abcd"), max_resolved=2)
    quick, slow = (AlertCursor(ANY, start=log.position) for _ in range(2))
    for name in "abcd":
        log.put(alert(name, 2, AlertState.RESOLVED))
        drained(quick, log)
    with pytest.raises(FellBehindError):
        slow.next(log)
    late = AlertCursor(ANY, start=log.position)
    assert drained(late, log) == []


def test_all_open_alerts_are_logged_and_those_that_are_open_in_the_log_alone_are_named() -> None:
    log = log_of(alert("a"), alert("b"), alert("c", 2, AlertState.RESOLVED))
    assert log.put_all_open([alert("b", 2), alert("d")]) == ["a"]
    log.remove("a")
    assert log.put_all_open([alert("b", 2), alert("d")]) == []
    assert drained(AlertCursor(ANY, start=log.position), log) == [alert("b", 2), alert("d")]


def test_an_alert_is_encoded_once_for_all_and_outdated_entries_do_not_pile_up() -> None:
    encoded: list[str] = []
    log = AlertLog(lambda each: encoded.append(each.id) or each.id.encode(), 10)  # type: ignore[func-returns-value]
    for version in range(1, 50):
        for name in ("a", "b", "c"):
            log.put(alert(name, version))
    sent = []
    for cursor in [AlertCursor(ANY, start=log.position) for _ in range(200)]:
        while (entry := cursor.next(log)) is not None:
            sent.append(log.encoded(entry))
    assert encoded == ["a", "b", "c"]
    assert len(sent) == 600
    assert len({id(each) for each in sent}) == 3
    assert len(log._entries) <= 16


@dataclass
class Watched:
    """Alerts that change, and one who watches them."""

    world: dict[str, Alert] = field(default_factory=dict)
    seen: dict[str, Alert] = field(default_factory=dict)
    log: AlertLog = field(default_factory=lambda: log_of(max_resolved=3))
    cursor: AlertCursor = field(default_factory=lambda: AlertCursor(ANY, start=0))

    def take(self) -> None:
        try:
            if entry := self.cursor.next(self.log):
                self.seen[entry.alert.id] = entry.alert
        except FellBehindError:
            # As a client does: it begins again.
            self.seen, self.cursor = {}, AlertCursor(ANY, start=self.log.position)

    def look(self) -> None:
        for name in self.log.put_all_open(each for each in self.world.values() if each.is_open):
            self.log.put(self.world[name])

    def change(self, name: str, state: AlertState, *, is_logged: bool) -> None:
        before = self.world.get(name)
        if before is None or before.is_open:
            self.world[name] = alert(name, before.version + 1 if before else 1, state)
            if is_logged:
                self.log.put(self.world[name])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdefg"), st.sampled_from(list(AlertState)), st.booleans()),
            st.sampled_from(["take", "look"]),
        )
    )
)
def test_in_the_end_a_watcher_has_every_open_alert_as_it_is(steps: list[tuple[str, AlertState, bool] | str]) -> None:
    watched = Watched()
    acts = {"take": watched.take, "look": watched.look}
    for step in steps:
        if isinstance(step, str):
            acts[step]()
        else:
            name, state, is_logged = step
            watched.change(name, state, is_logged=is_logged)
    watched.look()
    while watched.cursor.position < watched.log.position:
        watched.take()
    still_open = {name: each for name, each in watched.world.items() if each.is_open}
    assert {name: each for name, each in watched.seen.items() if each.is_open} == still_open


def test_a_filter_selects_by_all_its_fields() -> None:
    found = alert("a")
    assert AlertFilter(
        states=(AlertState.FIRING,), severities=(Severity.HIGH,), rule_id="rule-1", resource="a"
    ).selects(found)
    for wanted in (
        AlertFilter(states=(AlertState.RESOLVED,)),
        AlertFilter(severities=(Severity.LOW,)),
        AlertFilter(rule_id="other"),
        AlertFilter(resource="other"),
        AlertFilter(fired_after=START + WINDOW),
        AlertFilter(fired_before=START),
    ):
        assert not wanted.selects(found)
    assert AlertFilter(fired_after=START, fired_before=START + WINDOW).selects(replace(found))
