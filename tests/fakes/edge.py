"""What the command line talks to: real rules and silences on a store in memory, alerts and deliveries as told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Any

import grpc
from uuid_utils import uuid7

from services.access.key_snapshot import KeySnapshots
from services.chassis.failures import Failure, StoreUnavailable
from services.chassis.interceptors import ServerInterceptor
from services.manager.adapters.broadcasters import RuleBroadcaster
from services.manager.adapters.incident_broadcaster import IncidentBroadcaster
from services.manager.adapters.key_source import StoredKeySource
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.learned_edges import LearningSettings
from services.manager.core.silence_index import SilenceIndex
from services.manager.metrics import Metrics
from services.manager.rpc.access import AccessRpc
from services.manager.rpc.alerts import AlertContext
from services.manager.rpc.catalog import CatalogRpc
from services.manager.rpc.catalog_commands import CatalogCommands
from services.manager.rpc.changes import ChangeRpc
from services.manager.rpc.explanations import ExplanationRpc
from services.manager.rpc.failures import AlertNotFound
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.incident_queries import watch_response
from services.manager.rpc.incidents import IncidentRpc
from services.manager.rpc.learned_edges import LearnedEdgeRpc
from services.manager.rpc.on_call import OnCallRpc
from services.manager.rpc.on_call_commands import OnCallCommands
from services.manager.rpc.reports import ReportRpc
from services.manager.rpc.routing import RoutingContext, RoutingRpc
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands
from services.manager.rpc.rule_commands import RuleChecker, RuleCommands
from services.manager.rpc.rule_statistics import CurrentProblems, RuleStatisticsRpc
from services.manager.rpc.rules import AlertRuleRpc
from services.manager.rpc.silence_commands import SilenceCommands
from services.manager.rpc.silences import SilenceRpc
from tests.fakes.access import MemoryApiKeyReader, MemoryAuditReader
from tests.fakes.clock import FakeClock
from tests.fakes.explanations import MemoryExplanationReader
from tests.fakes.guards import OpenGuard
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import (
    MemoryAlertReader,
    MemoryCatalogFeed,
    MemoryChangeReader,
    MemoryDedupCache,
    MemoryLearnedEdgeReader,
    MemoryMatchedAlertReader,
    MemoryOnCallFeed,
    MemoryResponseCache,
    MemoryRoutingReader,
    MemoryRuleProblemReader,
    MemoryRuleReader,
    MemoryRuleStatisticsReader,
    MemorySilenceReader,
)
from tests.fakes.on_call import FixedOnCall, a_person, a_policy, a_step
from tests.fakes.reports import MemoryReportReader
from tests.fakes.routing import FakeReceivers, MemoryRoutingFeed
from tests.fakes.transitions import NOW
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.alerts.v1 import alert_service_pb2_grpc as alerts_grpc
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry
from tocsin.notifications.v1 import notification_service_pb2 as notifications_pb
from tocsin.notifications.v1 import notification_service_pb2_grpc as notifications_grpc
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, Delivery, FailedNotification, Receiver
from tocsin.rules.v1.alert_rule_service_pb2_grpc import add_AlertRuleServiceServicer_to_server


class StoredSilences:
    """Reads all silences each time."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def index(self, now: datetime) -> SilenceIndex:
        return SilenceIndex.of([silence for silence, _ in self._store.tables.silences.values()], now=now)

    def names_alerts(self) -> bool:
        return False

    async def refresh(self) -> None:
        return


class Edge(alerts_grpc.AlertServiceServicer, notifications_grpc.NotificationServiceServicer):
    """Serves what stands in its lists, and keeps the requests; `store` holds the rules and the silences."""

    def __init__(self) -> None:
        self.address = ""
        self.store = MemoryStore()
        self.clock = FakeClock()
        self._rule_reader = MemoryRuleReader(self.store)
        self.rules = RuleBroadcaster(self._rule_reader)
        self.known_receivers = FakeReceivers("operators", "shop_chat", "shop_mail")
        self.on_call = FixedOnCall(a_person("ann"), a_policy("shop", steps=(a_step(people=("ann",), schedules=()),)))
        self.alerts: list[Alert] = []
        # Whether the alerts were acknowledged or resolved before.
        self.unchanged = False
        self.history: list[AlertHistoryEntry] = []
        self.breakers: list[CircuitBreaker] = []
        self.receivers: list[Receiver] = []
        self.failed: list[FailedNotification] = []
        self.deliveries: list[Delivery] = []
        self.requests: list[Any] = []
        # How the streams of alerts end, the next one first; further ones end in good order.
        self.stream_failures: list[Failure] = []

    def mount(self, server: grpc.aio.Server) -> None:
        checker = RuleChecker()
        problems = MemoryRuleProblemReader(self.store)
        rules = AlertRuleRpc(
            RuleCommands(self.store, FakeClock(), lambda: str(uuid7()), Metrics(), checker),
            self._rule_reader,
            MemoryResponseCache(),
            self.rules,
            timedelta(seconds=10),
            CurrentProblems(problems, self.clock),
        )
        add_AlertRuleServiceServicer_to_server(rules, server)
        statistics = RuleStatisticsRpc(self.store, MemoryRuleStatisticsReader(self.store), problems, self.clock)
        statistics.mount().add(server)
        ChangeRpc(self.store, MemoryChangeReader(self.store), self.clock, lambda: str(uuid7())).mount().add(server)
        catalog = MemoryCatalogFeed(self.store)
        CatalogRpc(CatalogCommands(self.store, FakeClock(), catalog), catalog).mount().add(server)
        LearnedEdgeRpc(
            self.store, MemoryLearnedEdgeReader(self.store), FakeClock(NOW), Metrics(), LearningSettings()
        ).mount().add(server)
        incidents = IncidentCommands(self.store, catalog, MemoryDedupCache(), FakeClock(), IncidentSettings())
        incident_reader = MemoryIncidentReader(self.store)
        self.watched_incidents = IncidentBroadcaster(incident_reader, watch_response)
        context = AlertContext(catalog, MemoryChangeReader(self.store))
        IncidentRpc(incidents, incident_reader, self.watched_incidents, context).mount().add(server)
        reader = MemorySilenceReader(self.store)
        checker_of_trees = RoutingChecker(self.known_receivers, lambda: self.on_call.current.policies)
        trees, feed = MemoryRoutingReader(self.store), MemoryRoutingFeed(self.store)
        routing = RoutingRpc(
            RoutingCommands(self.store, trees, self.clock, feed, checker_of_trees),
            checker_of_trees,
            trees,
            feed,
            RoutingContext(
                catalog=catalog,
                silences=StoredSilences(self.store),
                silence_reader=reader,
                alerts=MemoryMatchedAlertReader(self.store),
                on_call=self.on_call,
            ),
            self.clock,
        )
        routing.mount().add(server)
        silences = SilenceRpc(
            SilenceCommands(self.store, self.clock, lambda: str(uuid7()), StoredSilences(self.store)),
            reader,
            MemoryAlertReader(self.store),
            MemoryMatchedAlertReader(self.store),
            self.clock,
        )
        silences.mount().add(server)
        on_call = MemoryOnCallFeed(self.store)
        on_call_commands = OnCallCommands(self.store, self.clock, lambda: str(uuid7()), on_call, self.known_receivers)
        OnCallRpc(on_call_commands, on_call, self.clock).mount().add(server)
        ReportRpc(MemoryReportReader(self.store), self.clock).mount().add(server)
        stored_alerts, stored_incidents = MemoryAlertReader(self.store), MemoryIncidentReader(self.store)
        explained = ExplanationRpc(stored_alerts, stored_incidents, reader, MemoryExplanationReader(self.store))
        explained.mount().add(server)
        keys = MemoryApiKeyReader(self.store)
        snapshots = KeySnapshots(StoredKeySource(self.store, keys, self.clock))
        AccessRpc(self.store, keys, MemoryAuditReader(self.store), snapshots, self.clock, token_bytes).mount().add(
            server
        )
        alerts_grpc.add_AlertServiceServicer_to_server(self, server)
        notifications_grpc.add_NotificationServiceServicer_to_server(self, server)

    async def ListAlerts(self, request: Any, _context: Any) -> alerts_pb.ListAlertsResponse:  # noqa: N802
        self.requests.append(request)
        return alerts_pb.ListAlertsResponse(alerts=self.alerts)

    async def WatchAlerts(self, request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.requests.append(request)
        for alert in self.alerts:
            yield alerts_pb.WatchAlertsResponse(alert=alert)
        if self.stream_failures:
            raise self.stream_failures.pop(0)

    async def GetAlert(self, request: Any, _context: Any) -> alerts_pb.GetAlertResponse:  # noqa: N802
        return alerts_pb.GetAlertResponse(alert=self._alert(request), history=self.history)

    async def AcknowledgeAlert(self, request: Any, _context: Any) -> alerts_pb.AcknowledgeAlertResponse:  # noqa: N802
        return alerts_pb.AcknowledgeAlertResponse(alert=self._alert(request), unchanged=self.unchanged)

    async def ResolveAlert(self, request: Any, _context: Any) -> alerts_pb.ResolveAlertResponse:  # noqa: N802
        return alerts_pb.ResolveAlertResponse(alert=self._alert(request), unchanged=self.unchanged)

    def _alert(self, request: Any) -> Alert:
        self.requests.append(request)
        for alert in self.alerts:
            if alert.id == request.id:
                return alert
        raise AlertNotFound("there is no alert with this id", alert_id=request.id)

    async def ListFailedNotifications(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        return notifications_pb.ListFailedNotificationsResponse(failed_notifications=self.failed)

    async def ListDeliveries(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        return notifications_pb.ListDeliveriesResponse(deliveries=self.deliveries)

    async def RetryFailedNotification(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        for one in self.failed:
            if one.id == request.id:
                return notifications_pb.RetryFailedNotificationResponse(failed_notification=one)
        raise StoreUnavailable("the database does not answer")

    async def ListCircuitBreakers(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        return notifications_pb.ListCircuitBreakersResponse(circuit_breakers=self.breakers)

    async def ListReceivers(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        return notifications_pb.ListReceiversResponse(receivers=self.receivers)


@contextmanager
def running_edge() -> Iterator[Edge]:
    """Serve on a loop in a thread of its own, since the command blocks the caller's."""
    edge = Edge()
    loop = asyncio.new_event_loop()

    async def start() -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=[ServerInterceptor(OpenGuard())])
        edge.mount(server)
        edge.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        return server

    with ThreadPoolExecutor(1) as pool:
        pool.submit(loop.run_forever)
        server = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield edge
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(None), loop).result()
            loop.call_soon_threadsafe(loop.stop)
    loop.close()
