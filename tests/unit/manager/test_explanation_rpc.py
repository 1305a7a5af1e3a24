"""Explanations: the service on a store in memory."""

from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.domain.severity import Severity
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.incident import (
    IncidentHistoryKind,
)
from services.manager.core.rule import StoredRule
from services.manager.core.silence import Silence
from services.manager.rpc.explanations import ExplanationRpc
from services.manager.rpc.failures import AlertNotFound, IncidentNotFound
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.explanations import MemoryExplanationReader
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryAlertReader, MemorySilenceReader
from tests.fakes.transitions import NOW, a_subject
from tests.unit.manager.explained import MINUTE, an_alert, an_incident, entry, incident_entry
from tocsin.alerts.v1 import alert_pb2
from tocsin.explanations.v1 import explanation_service_pb2 as pb
from tocsin.explanations.v1.explanation_pb2 import Explanation
from tocsin.explanations.v1.explanation_pb2 import ExplanationStep as StepMessage


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def explanations(store: MemoryStore) -> ExplanationRpc:
    readers = MemoryAlertReader(store), MemoryIncidentReader(store), MemorySilenceReader(store)
    return ExplanationRpc(*readers, MemoryExplanationReader(store))


def put(store: MemoryStore, *, evidence: bytes = b"") -> tuple[str, str]:
    """Store an alert with its rule, a silence and an incident; return the ids of alert and incident."""
    alert = replace(an_alert(), subject=replace(a_subject("shop"), evidence=evidence))
    store.tables.alerts[alert.id] = alert
    draft = Draft(
        id="rule-1",
        name="High error count",
        type=RuleType.ERROR_THRESHOLD,
        threshold=100,
        window=5 * MINUTE,
        severity=Severity.HIGH,
        revision=17,
    )
    rule = StoredRule(rule=complete(draft, is_stored=True), create_time=NOW - MINUTE, update_time=NOW - MINUTE)
    store.tables.rule_revisions[17] = rule
    silence = Silence(id="s", author="ann", comment="release", create_time=NOW, start_time=NOW, alert_ids=("a",))
    store.tables.silences["s"] = silence, 1
    for found in (
        entry(AlertHistoryKind.FIRED),
        entry(AlertHistoryKind.SILENCED, comment="by s"),
        entry(AlertHistoryKind.SILENCED, after=1, comment="by gone"),
    ):
        store.tables.history[found.id] = found
    incident = an_incident()
    store.tables.incidents.incidents[incident.id] = incident, 1
    opened = incident_entry(IncidentHistoryKind.OPENED, alert_id=alert.id)
    store.tables.incidents.history[opened.id] = opened
    return alert.id, incident.id


async def test_an_alert_and_an_incident_are_explained(store: MemoryStore, explanations: ExplanationRpc) -> None:
    evidence = alert_pb2.Alert()
    evidence.window.start_time.FromDatetime(NOW)
    evidence.window.end_time.FromDatetime(NOW + MINUTE)
    evidence.window.condition = "count > threshold"
    evidence.window.count = 120
    alert_id, incident_id = put(store, evidence=evidence.SerializeToString())
    explained = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    kinds = StepMessage.Kind
    assert [kinds.Name(step.kind) for step in explained.steps] == [
        "RULE",
        "EVALUATED",
        "FIRED",
        "CORRELATED",
        "WITHHELD",
        "WITHHELD",
    ]
    assert 'a silence by ann ("release")' in explained.steps[4].text
    assert explained.summary.startswith("Nobody was notified. Notifications of")
    assert "count 120 in" in explained.steps[1].text
    whole = (await explanations.ExplainIncident(pb.ExplainIncidentRequest(id=incident_id), None)).explanation
    assert [kinds.Name(step.kind) for step in whole.steps] == ["RULE", "EVALUATED", "CORRELATED"]


async def test_what_is_about_an_alert_is_found_in_a_history_of_very_many(
    store: MemoryStore, explanations: ExplanationRpc
) -> None:
    alert_id, incident_id = put(store)
    for n in range(1000):
        joined = incident_entry(IncidentHistoryKind.JOINED, after=n, alert_id=f"other {n}")
        store.tables.incidents.history[joined.id] = replace(joined, incident_id=incident_id)
    explained = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    assert StepMessage.CORRELATED in [step.kind for step in explained.steps]


def texts(explanation: Explanation) -> list[str]:
    return [step.text for step in explanation.steps]


async def test_what_was_decided_before_an_alert_was_split_off_is_found(
    store: MemoryStore, explanations: ExplanationRpc
) -> None:
    alert_id, former_id = put(store)
    kind = IncidentHistoryKind
    notified = incident_entry(kind.ESCALATED, after=1, decided_by="policy p, step 1", comment="step 1 of policy p")
    later = incident_entry(kind.ESCALATED, after=3, decided_by="policy p, step 2", comment="step 2 of policy p")
    split = replace(incident_entry(kind.SPLIT, after=2, decided_by=former_id, actor="ann"), incident_id="new")
    for each in (notified, later, split):
        store.tables.incidents.history[each.id] = each
    former = store.tables.incidents.incidents[former_id][0]
    new = replace(former, id="new", create_time=NOW + 2 * MINUTE)
    other = replace(next(iter(former.alerts.values())), id="other", resource="mail")
    store.tables.incidents.incidents = {former_id: (replace(former, alerts={"other": other}), 1), "new": (new, 2)}
    delivered = replace(entry(AlertHistoryKind.NOTIFIED, after=4, channel="mail"), alert_id="other")
    store.tables.history[delivered.id] = delivered
    explanation = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    assert "mail" not in explanation.summary
    found = texts((await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation)
    assert "Escalation: step 1 of policy p." in found
    assert "Escalation: step 2 of policy p." not in found
    del store.tables.incidents.incidents[former_id]
    found = texts((await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation)
    assert "Escalation: step 1 of policy p." not in found


async def test_what_was_decided_of_a_merged_incident_is_found(store: MemoryStore, explanations: ExplanationRpc) -> None:
    _, other_id = put(store)
    merged = replace(incident_entry(IncidentHistoryKind.MERGED, after=2, decided_by=other_id), incident_id="new")
    store.tables.incidents.history[merged.id] = merged
    other = store.tables.incidents.incidents[other_id][0]
    store.tables.incidents.incidents["new"] = replace(other, id="new"), 2
    store.tables.incidents.incidents[other_id] = replace(other, merged_into="new"), 3
    found = texts((await explanations.ExplainIncident(pb.ExplainIncidentRequest(id="new"), None)).explanation)
    assert any("opened an incident" in text for text in found)
    whole = texts((await explanations.ExplainIncident(pb.ExplainIncidentRequest(id=other_id), None)).explanation)
    assert not any("took over" in text for text in whole)


@pytest.mark.parametrize("seconds", [None, 1 << 40])
async def test_a_window_that_cannot_be_read_is_left_out(
    store: MemoryStore, explanations: ExplanationRpc, seconds: int | None
) -> None:
    evidence = alert_pb2.Alert()
    if seconds is not None:
        evidence.window.start_time.CopyFrom(Timestamp(seconds=seconds))
    alert_id, _ = put(store, evidence=evidence.SerializeToString())
    explained = (await explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert_id), None)).explanation
    assert StepMessage.EVALUATED not in [step.kind for step in explained.steps]


async def test_what_is_not_there_is_refused(explanations: ExplanationRpc) -> None:
    with pytest.raises(AlertNotFound):
        await explanations.ExplainAlert(pb.ExplainAlertRequest(id="a"), None)
    with pytest.raises(IncidentNotFound):
        await explanations.ExplainIncident(pb.ExplainIncidentRequest(id="a"), None)
