"""Explanations from what real managers have recorded."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest

from services.domain.severity import Severity
from tests.integration.manager.conftest import World, transition, until
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.explanations.v1 import explanation_service_pb2 as pb
from tocsin.explanations.v1.explanation_pb2 import ExplanationStep
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult
from tocsin.routing.v1.routing_service_pb2 import SetRoutingRequest
from tocsin.routing.v1.routing_tree_pb2 import InhibitionRule, Route, RoutingTree
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import CreateAlertRuleRequest
from tocsin.silences.v1.silence_pb2 import Silence
from tocsin.silences.v1.silence_service_pb2 import CreateSilenceRequest

pytestmark = pytest.mark.integration

KIND = ExplanationStep.Kind


async def test_an_alert_is_explained_from_its_rule_to_its_delivery(world: World) -> None:
    rule = AlertRule(
        name="Many errors", type=AlertRule.ERROR_THRESHOLD, threshold=100, window_minutes=5, severity=AlertRule.CRITICAL
    )
    created = (await world.rules.CreateAlertRule(CreateAlertRuleRequest(alert_rule=rule))).alert_rule
    firing = transition(resource="shop", rule_id=created.id, revision=created.revision)
    firing.window.start_time.CopyFrom(firing.first_window_time)
    firing.window.end_time.CopyFrom(firing.create_time)
    firing.window.condition = "count > threshold"
    await world.publish(firing)
    await world.processed(1)
    (alert,) = await world.listed()
    result = NotificationResult(
        delivery_id="d",
        alert_id=alert.id,
        channel="slack",
        outcome=NotificationResult.DELIVERED,
        kind=Notification.FIRING,
        create_time=firing.create_time,
    )
    result.create_time.seconds += 5
    await world.report(result, trace="4bf92f3577b34da6a3ce929d0e0e4736")

    async def explained() -> list[ExplanationStep]:
        response = await world.explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert.id))
        steps = list(response.explanation.steps)
        kinds = {step.kind for step in steps}
        return steps if {KIND.DELIVERED, KIND.CORRELATED} <= kinds else []

    steps = await until(explained)
    revision = f"revision {created.revision} of the rule"
    by_kind = {step.kind: step for step in steps}
    assert '"Many errors" fires when count > threshold' in by_kind[KIND.RULE].text
    assert "count 120 in" in by_kind[KIND.EVALUATED].text
    assert (by_kind[KIND.EVALUATED].decided_by, by_kind[KIND.FIRED].decided_by) == (revision, revision)
    assert by_kind[KIND.DELIVERED].channel == "slack"
    incident = by_kind[KIND.CORRELATED].references[0].id
    whole = await world.explanations.ExplainIncident(pb.ExplainIncidentRequest(id=incident))
    assert whole.explanation.summary == "Notified: slack."
    acknowledged = alerts_pb.AcknowledgeAlertRequest(id=alert.id, actor="ann", comment="on it")
    await world.alerts.AcknowledgeAlert(acknowledged)
    after = await world.explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert.id))
    assert "ann" in {step.decided_by for step in after.explanation.steps if step.kind == KIND.ACKNOWLEDGED}


async def test_it_says_which_silence_withholds_notifications(world: World) -> None:
    silence = Silence(matchers=['service="shop"'], author="ann", comment="release")
    silence.end_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    await world.silences.CreateSilence(CreateSilenceRequest(silence=silence))
    await world.publish(transition(resource="shop"))
    await world.processed(1)
    (alert,) = await world.listed()
    found = await world.explanations.ExplainAlert(pb.ExplainAlertRequest(id=alert.id))
    assert found.explanation.summary.startswith("Nobody was notified.")
    assert 'a silence {service="shop"} by ann ("release")' in found.explanation.summary


async def test_it_says_which_alert_inhibits_and_by_which_rule(world: World) -> None:
    rule = InhibitionRule(source=["severity=CRITICAL"], target=["severity=HIGH"])
    tree = RoutingTree(root=Route(receivers=["operators"]), inhibition_rules=[rule])
    await world.routing.SetRouting(SetRoutingRequest(tree=tree))
    await world.publish(transition(resource="database"))

    async def notified() -> list[ExplanationStep]:
        found = await world.listed()
        if not found:
            return []
        explained = await world.explanations.ExplainAlert(pb.ExplainAlertRequest(id=found[-1].id))
        return [step for step in explained.explanation.steps if step.kind == KIND.NOTIFIED]

    (step,) = await until(notified)
    assert step.text == 'To be notified that "High error count" on database fires: operators.'
    assert step.decided_by == "route root"
    await world.publish(transition(resource="shop", rule_id="rule-2", severity=Severity.HIGH))

    async def withheld() -> str:
        found = {alert.resource: alert.id for alert in await world.listed()}
        if "shop" not in found:
            return ""
        explained = await world.explanations.ExplainAlert(pb.ExplainAlertRequest(id=found["shop"]))
        return str(explained.explanation.summary) if "inhibits" in explained.explanation.summary else ""

    summary = await until(withheld)
    assert '"High error count" on database inhibits it (inhibition rule 1).' in summary


async def test_what_is_not_there_is_not_found(world: World) -> None:
    refused = await refusal(world.explanations.ExplainAlert(pb.ExplainAlertRequest(id="nothing")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "ALERT_NOT_FOUND")
