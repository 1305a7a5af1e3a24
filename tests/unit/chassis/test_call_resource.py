"""What the audit log says that a call is about."""

from typing import Any

import pytest

from services.chassis.interceptors import call_resource
from tocsin.changes.v1.change_service_pb2 import RecordChangeRequest, RecordChangeResponse
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import (
    CreateAlertRuleRequest,
    CreateAlertRuleResponse,
    DeleteAlertRuleRequest,
    ListAlertRulesResponse,
)

NEW = CreateAlertRuleRequest(alert_rule=AlertRule(name="errors"))
MADE = CreateAlertRuleResponse(alert_rule=AlertRule(id="7", name="errors"))


@pytest.mark.parametrize(
    ("requests", "response", "resource"),
    [
        pytest.param([DeleteAlertRuleRequest(id="3")], None, "3", id="the request names it"),
        pytest.param([NEW], MADE, "7", id="it was made"),
        pytest.param([RecordChangeRequest()], RecordChangeResponse(change=ServiceChange(id="9")), "9", id="recorded"),
        pytest.param([NEW], None, "errors", id="it was refused"),
        pytest.param([NEW], MADE.SerializeToString(), "errors", id="the answer was encoded already"),
        pytest.param([RecordChangeRequest()], None, "", id="nothing names it"),
        pytest.param([], ListAlertRulesResponse(alert_rules=[AlertRule(id="1")]), "", id="a list is about none"),
    ],
)
def test_the_resource_of_a_call(requests: list[Any], response: Any, resource: str) -> None:
    assert call_resource(requests, response) == resource
