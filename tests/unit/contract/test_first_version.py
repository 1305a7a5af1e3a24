"""Every record that the first version wrote, to any topic, is read by what reads that topic today."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest

from cli.events.decoding import decode_events
from services.chassis.kafka import Consumer, Rebalance, Record
from services.contract import topics
from services.evaluator.adapters.log_events import LogDecoder
from services.evaluator.adapters.rule_client import RuleCache
from services.evaluator.adapters.window_partials_source import KafkaPartialSource
from services.evaluator.adapters.window_state import decode_state
from services.evaluator.core.records import SECOND_NS, TransitionState
from services.evaluator.core.window.checkpoint import decode_checkpoint
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.messages.alerts import UnusableRecordError
from services.manager.worker.results import result_entry
from services.manager.worker.transitions import transition_of
from services.notifier.messages import UnreadableNotificationError, decode_notification
from tests.first_version import FOLDER, START, UNREADABLE, records_of
from tests.first_version import committed_metadata as committed
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.logs.v1.log_event_pb2 import DeadLetter
from tocsin.notifications.v1.notification_pb2 import NotificationResult

RESOURCES = {"checkout", "payments", "search", "billing"}


class FetchedOnce:
    """A consumer that has these records."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    async def fetch(self, _limit: int, _timeout_s: float) -> tuple[Rebalance, list[Record]]:
        return Rebalance(), list(self._records)


def readable(topic: str) -> list[Record]:
    return [record for record in records_of(topic) if record.value != UNREADABLE]


def test_events_are_read_and_what_is_no_batch_is_named() -> None:
    records = records_of(topics.LOG_EVENTS)
    events, unreadable = LogDecoder().decode(records)
    assert [each.record.value for each in unreadable] == [UNREADABLE]
    services = Counter(events.columns.column("service").to_pylist())
    ticks = services.pop("heartbeat")
    assert services == {
        "catalog": 12 + 6 + 280,
        "checkout": 8,
        "payments": 9,
        "search": 6,
        "billing": 12,
        "gateway": 3,
        "undated": 1,
    }
    assert len(events.columns) == sum(services.values()) + ticks
    assert events.columns.column("event_time").null_count == 1


def test_the_command_line_reads_the_same_events() -> None:
    events = [event for record in readable(topics.LOG_EVENTS) for event in decode_events(record)]
    decoded, _ = LogDecoder().decode(records_of(topics.LOG_EVENTS))
    for name in ("record_id", "service", "level", "message", "host", "trace_id"):
        assert [getattr(event, name) for event in events] == decoded.columns.column(name).to_pylist()


def test_values_of_an_event_are_what_they_were() -> None:
    events, _ = LogDecoder().decode(readable(topics.LOG_EVENTS))
    columns = events.columns
    row = columns.column("service").to_pylist().index("checkout")
    names = ("record_id", "level", "message", "status_code", "response_time", "host", "trace_id", "attributes")
    assert {name: columns.column(name)[row].as_py() for name in names} == {
        "record_id": "event-1",
        "level": 5,
        "message": "checkout line 1",
        "status_code": 500,
        "response_time": 20.5,
        "host": "web-0",
        "trace_id": f"{1:032x}",
        "attributes": [("order", "0")],
    }


async def test_partials_are_read() -> None:
    records = records_of(topics.WINDOW_PARTIALS)
    fetch = await KafkaPartialSource(cast(Consumer, FetchedOnce(records))).fetch(1000, 0.0)
    assert [(each.partition, each.offset) for each in fetch.partials] == [
        (record.partition, record.offset) for record in records
    ]
    assert {each.batch.blocks[0].progress.source_partition for each in fetch.partials} == {0, 1, 2, 3}


def test_checkpoints_are_read() -> None:
    checkpoints = [decode_checkpoint(*each) for each in committed(topics.WINDOW_GROUP)]
    assert {each.watermark_ns for each in checkpoints} == {(START + 700) * SECOND_NS}
    assert {(each.position, each.owner) for each in checkpoints} == {(46, "")}


def test_states_of_groups_are_read() -> None:
    records = records_of(topics.WINDOW_STATE)
    # The first version deleted a state by an empty value.
    states = [decode_state(record.value) for record in records if record.value]
    assert Counter((state.group, state.state) for state in states) == dict.fromkeys(
        (((name,), TransitionState.FIRING) for name in RESOURCES), 1
    ) | {(("checkout",), TransitionState.RESOLVED): 1}
    assert [record.key for record in records if not record.value] == [
        record.key for record in records if b"checkout" in (record.key or b"") and not record.value
    ]


def test_transitions_are_read() -> None:
    transitions = [transition_of(AlertTransition.FromString(each.value)) for each in readable(topics.ALERTS)]
    observed = Counter((each.subject.resource, type(each.observation)) for each in transitions)
    assert observed == dict.fromkeys(((name, Fired) for name in RESOURCES), 1) | {("checkout", Ended): 1}


def test_notifications_are_read() -> None:
    contents = [decode_notification(record.value) for record in readable(topics.NOTIFICATIONS)]
    assert {content.resource for content in contents} == RESOURCES
    with pytest.raises(UnreadableNotificationError):
        decode_notification(UNREADABLE)


def test_results_are_read() -> None:
    entries = [
        result_entry(NotificationResult.FromString(each.value)) for each in readable(topics.NOTIFICATION_RESULTS)
    ]
    assert Counter(entry.channel for entry in entries) == {"pagerduty": 5, "slack": 5, "email": 5, "webhook": 1}
    with pytest.raises(UnusableRecordError):
        result_entry(NotificationResult())


def test_dead_letters_are_read() -> None:
    letters = [DeadLetter.FromString(record.value) for record in records_of(topics.LOG_EVENTS_DEAD_LETTER)]
    assert {letter.topic for letter in letters} == {
        topics.LOG_EVENTS,
        topics.ALERTS,
        topics.NOTIFICATIONS,
        topics.NOTIFICATION_RESULTS,
    }
    assert {letter.value for letter in letters} == {UNREADABLE}
    assert all(letter.reason for letter in letters)


def test_the_copy_of_the_rules_is_read() -> None:
    update = RuleCache(FOLDER).read()
    assert update is not None
    assert {rule.name for rule in update.rules.values() if rule.enabled} == {
        "High error count",
        "Slow responses",
        "Failed responses",
        "Errors of a service",
        "Slow answers",
        "Failing answers",
        "Timeouts by region",
        "Edited",
    }
