"""The manager's rule stream, as far as the evaluator sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from tocsin.rules.v1 import alert_rule_pb2, alert_rule_service_pb2

AlertRule = alert_rule_pb2.AlertRule
Snapshot = alert_rule_service_pb2.WatchAlertRulesResponse


def a_rule(**changed: Any) -> AlertRule:
    """Return a complete rule as the manager stores it, with the given fields changed."""
    fields: dict[str, Any] = {
        "id": "rule-errors",
        "name": "High Error Rate",
        "type": AlertRule.ERROR_THRESHOLD,
        "filter": "level >= ERROR",
        "group_by": ["service"],
        "value_field": "response_time",
        "condition": "count > threshold",
        "threshold": 100.0,
        "window_minutes": 5,
        "severity": AlertRule.CRITICAL,
        "enabled": True,
        "revision": 1,
        "selection_revision": 1,
    }
    return AlertRule(**(fields | changed))


def default_rules() -> list[AlertRule]:
    """Return the three rules that the manager starts with."""
    return [
        a_rule(),
        a_rule(
            id="rule-latency",
            name="Slow Responses",
            type=AlertRule.LATENCY_THRESHOLD,
            filter="response_time > 2000.0",
            threshold=50.0,
            severity=AlertRule.HIGH,
        ),
        a_rule(
            id="rule-rate",
            name="Server Errors",
            type=AlertRule.ERROR_RATE,
            filter="status_code >= 500",
            threshold=25.0,
            severity=AlertRule.HIGH,
        ),
    ]


def watch_handler(watch: Callable[[Any, Any], AsyncIterator[Snapshot]]) -> grpc.GenericRpcHandler:
    """Serve WatchAlertRules alone."""
    method = grpc.unary_stream_rpc_method_handler(
        watch,
        request_deserializer=alert_rule_service_pb2.WatchAlertRulesRequest.FromString,
        response_serializer=Snapshot.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("tocsin.rules.v1.AlertRuleService", {"WatchAlertRules": method})


class FakeManager:
    """Streams the rules; call it on the event loop that serves it."""

    def __init__(self, *rules: AlertRule) -> None:
        self._rules = list(rules)
        self._revision = max([1, *(rule.revision for rule in rules)])
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Serve, on the same port each time."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([watch_handler(self.WatchAlertRules)])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def set(self, *rules: AlertRule) -> None:
        """Change the rules as a whole; the revision rises."""
        async with self._changed:
            self._rules = list(rules)
            self._revision = max([self._revision + 1, *(rule.revision for rule in rules)])
            self._changed.notify_all()

    async def WatchAlertRules(self, request: Any, _context: Any) -> AsyncIterator[Snapshot]:  # noqa: N802  (gRPC's name)
        known = request.known_revision
        if known == self._revision:
            yield Snapshot(revision=self._revision)
        while True:
            async with self._changed:
                while self._revision == known:
                    await self._changed.wait()
                known = self._revision
                snapshot = Snapshot(revision=known, is_snapshot=True, alert_rules=self._rules)
            yield snapshot
