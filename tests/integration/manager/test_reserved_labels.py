"""A rule stored with reserved labels, before they were refused: what its alerts are matched by, and what they show."""

import pytest

from tests.integration.manager.conftest import World, transition
from tests.integration.manager.test_rules import created, got
from tests.integration.manager.test_silences import a_silence, add, silenced
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.rules.v1 import alert_rule_service_pb2 as pb

pytestmark = pytest.mark.integration

OWN = {"alertname": "other", "severity": "LOW", "team": "payments"}


async def test_the_reserved_values_decide_in_matching_and_the_labels_show_the_rules_own(world: World) -> None:
    rule = await created(world, name="High error count of payments", labels={"team": "payments"})
    await world.execute(
        """UPDATE alert_rules SET labels = '{"alertname": "other", "severity": "LOW", "team": "payments"}'"""
        " WHERE labels ? 'team'"
    )
    # What the evaluator sends of such a rule has its labels as they are.
    sent = transition(rule_id=rule.id)
    sent.labels.update(OWN)
    for matchers in (['alertname="other"'], ["severity=LOW"], ['alertname!="High error count"']):
        await add(world, a_silence(matchers=matchers))
    by_reserved = await add(world, a_silence(matchers=['alertname="High error count"', "severity=CRITICAL"]))
    await world.publish(sent)
    (alert,) = await silenced(world)
    assert list(alert.silenced_by) == [by_reserved.id]
    assert dict(alert.labels) == OWN
    reserved = {"alertname": "High error count", "severity": "CRITICAL", "team": "payments"}
    assert reserved.items() <= dict(alert.match_labels).items()
    assert await world.listed(matchers=["alertname=other"]) == []
    assert [each.id for each in await world.listed(matchers=["severity=CRITICAL"])] == [alert.id]
    whole = (await world.alerts.GetAlert(alerts_pb.GetAlertRequest(id=alert.id))).alert
    assert (dict(whole.labels), whole.match_labels["severity"]) == (OWN, "CRITICAL")
    # The rule goes on as it is, and can be switched off and on.
    assert dict((await got(world, rule.id)).labels) == OWN
    off = await world.rules.DisableAlertRule(pb.DisableAlertRuleRequest(id=rule.id))
    assert (off.alert_rule.enabled, dict(off.alert_rule.labels)) == (False, OWN)
