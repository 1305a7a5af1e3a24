"""The ten rules that every system evaluates, each a count by service in windows of one minute."""

from collections.abc import Mapping

import grpc
from google.protobuf.duration_pb2 import Duration

from stack.ports import Ports
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_service_pb2 import CreateAlertRuleRequest
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

# The programs of the others state the same, each in its own language.
FILTERS: Mapping[str, str] = {
    "all": "true",
    "errors": "level == ERROR",
    "severe": "level >= ERROR",
    "slow": "response_time > 1000.0",
    "failed": "status_code >= 500",
    "timeouts": 'message.contains("timeout")',
    "deletes": 'message.contains("DELETE")',
    "refused": 'message.matches("(?i)refused|unreachable")',
    "one-service": 'service == "openstack" && level == WARN',
    "one-region": 'attributes.region == "eu-1"',
}
THRESHOLD = 1000
_WINDOW = Duration(seconds=60)


def create_rules(ports: Ports) -> None:
    """Create the ten rules in a system without authentication."""
    with grpc.insecure_channel(f"127.0.0.1:{ports.edge}") as channel:
        stub = AlertRuleServiceStub(channel)
        for name, selects in FILTERS.items():
            rule = AlertRule(
                name=f"bench-peers-{name}",
                type=AlertRule.CUSTOM,
                filter=selects,
                condition="count > threshold",
                threshold=THRESHOLD,
                window=_WINDOW,
                severity=AlertRule.LOW,
            )
            stub.CreateAlertRule(CreateAlertRuleRequest(alert_rule=rule), timeout=10)
