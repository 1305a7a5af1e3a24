"""The public services of the whole mesh. Each service reflects all of them at the edge, whichever serves the call."""

from grpc_health.v1 import health_pb2

from tocsin.access.v1 import access_service_pb2
from tocsin.alerts.v1 import alert_service_pb2
from tocsin.catalog.v1 import catalog_service_pb2, learned_edge_service_pb2
from tocsin.changes.v1 import change_service_pb2
from tocsin.explanations.v1 import explanation_service_pb2
from tocsin.incidents.v1 import incident_service_pb2
from tocsin.logs.v1 import log_ingest_service_pb2
from tocsin.notifications.v1 import notification_service_pb2
from tocsin.oncall.v1 import on_call_service_pb2
from tocsin.reports.v1 import report_service_pb2
from tocsin.routing.v1 import routing_service_pb2
from tocsin.rules.v1 import alert_rule_service_pb2, rule_statistics_service_pb2
from tocsin.silences.v1 import silence_service_pb2

PUBLIC_SERVICES = tuple(
    service.full_name
    for file in (
        log_ingest_service_pb2,
        alert_rule_service_pb2,
        rule_statistics_service_pb2,
        alert_service_pb2,
        catalog_service_pb2,
        learned_edge_service_pb2,
        incident_service_pb2,
        change_service_pb2,
        silence_service_pb2,
        report_service_pb2,
        on_call_service_pb2,
        explanation_service_pb2,
        routing_service_pb2,
        notification_service_pb2,
        access_service_pb2,
        health_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)
