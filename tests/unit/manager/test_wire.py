"""The contract's messages to values and back."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.contract.timestamps import timestamp_of
from services.domain.alert import Command, Ended, Fired, State
from services.domain.fingerprint import open_key
from services.domain.severity import Severity
from services.manager.core.alert import Kind, Notice, entry_id, notification_id
from services.manager.core.commands.change import Order, carry_out
from services.manager.core.commands.rules import created
from services.manager.core.commands.transitions import Book, decide
from services.manager.wire import alerts, results, rules
from services.rule_language.rule import Draft, RuleType, complete
from tests.unit.manager.stories import NOW, word
from tocsin.alerts.v1.alert_pb2 import Alert, AlertTransition, SampleEvent
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def sent(**said: object) -> AlertTransition:
    given: dict[str, object] = {
        "id": "t1",
        "state": "FIRING",
        "fingerprint": "f1",
        "rule_id": "r1",
        "rule_revision": 3,
        "severity": "HIGH",
        "resource": "a",
        "group": {"service": "a"},
        "labels": {"team": "x"},
        "samples": [SampleEvent(message="no")],
        "first_window_time": Timestamp(seconds=100),
        "create_time": Timestamp(seconds=200, nanos=1500),
    }
    return AlertTransition(**{**given, **said})  # type: ignore[arg-type]


def test_a_transition_becomes_an_alert_with_all_its_evidence() -> None:
    message = sent()
    message.window.count = 5
    book, _ = decide(Book(), [alerts.transition(message)], NOW)
    shown = alerts.alert(book.open[open_key(rule_id="r1", resource="a")])
    assert (shown.window, dict(shown.group), dict(shown.labels)) == (message.window, {"service": "a"}, {"team": "x"})
    assert list(shown.samples) == list(message.samples)
    assert (shown.state, shown.severity, shown.rule_id) == (Alert.FIRING, AlertRule.HIGH, "r1")
    assert shown.fire_time == Timestamp(seconds=200, nanos=1000)
    assert not shown.HasField("resolve_time")
    (bare,) = decide(Book(), [alerts.transition(sent())], NOW)[0].open.values()
    assert not alerts.alert(bare).HasField("window")


def test_the_two_words_of_the_evaluator() -> None:
    assert isinstance(alerts.transition(sent()).word, Fired)
    ended = alerts.transition(sent(state="RESOLVED"))
    assert isinstance(ended.word, Ended)
    assert ended.verdict.episode == datetime(1970, 1, 1, 0, 1, 40, tzinfo=UTC)
    assert ended.verdict.revision == 3


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"id": ""}, "id is missing"),
        ({"fingerprint": "a\0"}, "fingerprint has the character NUL"),
        ({"rule_id": ""}, "rule_id is missing"),
        ({"severity": 0}, "severity is missing"),
        ({"severity": 99}, "severity is missing"),
        ({"state": 0}, "state is missing"),
        ({"first_window_time": None}, "first_window_time is missing"),
        ({"create_time": Timestamp(seconds=10**12)}, "out of range"),
    ],
)
def test_a_transition_that_lacks_something_says_what(said: dict[str, object], problem: str) -> None:
    with pytest.raises(alerts.UnusableRecordError, match=problem):
        alerts.transition(sent(**said))


def test_a_notification_shows_the_alert_as_it_was_then() -> None:
    book, _ = decide(Book(), [word()], NOW)
    (alert,) = book.open.values()
    change, _ = carry_out(alert, Order(command=Command.RESOLVE, actor="ana"), now=NOW)
    assert change is not None
    told = alerts.notification(change.alert, Notice.RESOLVED)
    assert (told.kind, told.alert.state, told.alert.resolved_by) == (Notification.RESOLVED, Alert.RESOLVED, "ana")
    assert told.id == notification_id(alert.id, Notice.RESOLVED) != notification_id(alert.id, Notice.FIRING)
    assert told.alert.etag == change.alert.etag != alert.etag


def test_states_of_the_contract() -> None:
    assert alerts.state(Alert.ACKNOWLEDGED) is State.ACKNOWLEDGED
    with pytest.raises(ValueError, match="STATE_UNSPECIFIED"):
        alerts.state(Alert.STATE_UNSPECIFIED)


def result(**said: object) -> NotificationResult:
    given: dict[str, object] = {
        "delivery_id": "d1",
        "alert_id": "a1",
        "kind": "FIRING",
        "channel": "slack",
        "outcome": "DELIVERED",
        "create_time": Timestamp(seconds=5),
    }
    return NotificationResult(**{**given, **said})  # type: ignore[arg-type]


def test_a_result_becomes_a_line_of_history() -> None:
    taken = results.entry(result())
    assert (taken.kind, taken.channel, taken.comment) == (Kind.NOTIFIED, "slack", "FIRING")
    failed = results.entry(result(outcome="FAILED", reason="HTTP 500", fallback_for="pager"))
    assert (failed.kind, failed.comment) == (Kind.NOTIFICATION_FAILED, "FIRING; in place of pager; HTTP 500")
    assert failed.id != taken.id == results.entry(result(attempt_count=3)).id
    assert taken.id == entry_id("a1", Kind.NOTIFIED, "d1")
    assert alerts.entry(results.entry(result(), trace_id="4b" * 16)).trace_id == "4b" * 16
    assert results.entry(result(kind=77)).comment == ""


@pytest.mark.parametrize("said", [{"delivery_id": ""}, {"alert_id": ""}, {"channel": ""}, {"outcome": 0}])
def test_a_result_that_lacks_something_says_what(said: dict[str, object]) -> None:
    with pytest.raises(alerts.UnusableRecordError, match="missing"):
        results.entry(result(**said))


def test_a_result_from_no_time_is_refused() -> None:
    with pytest.raises(alerts.UnusableRecordError, match="create_time"):
        results.entry(result(create_time=Timestamp(seconds=-(10**12))))


def test_a_kept_rule_is_shown_with_its_etag_and_times_and_one_that_is_not_kept_without() -> None:
    draft = Draft(name="n", type=RuleType.ERROR_RATE, threshold=0, window_minutes=5, severity=Severity.LOW)
    kept = created(complete(draft), "id", 4, now=NOW)
    shown = rules.message(kept)
    assert (shown.etag, shown.create_time, shown.update_time) == (kept.etag, timestamp_of(NOW), timestamp_of(NOW))
    bare = rules.message(replace(kept, rule=complete(draft)))
    assert not bare.etag
    assert not bare.HasField("create_time")


def test_fields_that_are_present_are_those_that_were_set() -> None:
    assert rules.present(AlertRule(enabled=False, name="")) == {"enabled"}
