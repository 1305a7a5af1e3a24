"""Find an alert, a delivery or a rule by what people type: the beginning of its id, or a rule's name."""

import os
from collections.abc import Callable, Mapping

import grpc
import typer

from cli.alert_tables import shown_resource
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ExitCode
from cli.output import ErrorDetail, ErrorReport, OutputFormat, print_error
from services.chassis.printable import printable
from services.contract.paging import MAX_PAGE_SIZE
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsRequest
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.incidents.v1.incident_pb2 import Incident
from tocsin.incidents.v1.incident_service_pb2 import ListIncidentsRequest
from tocsin.incidents.v1.incident_service_pb2_grpc import IncidentServiceStub
from tocsin.notifications.v1.notification_pb2 import FailedNotification
from tocsin.notifications.v1.notification_service_pb2 import ListFailedNotificationsRequest
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub
from tocsin.rules.v1.alert_rule_service_pb2 import ListAlertRulesRequest
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub
from tocsin.silences.v1.silence_pb2 import Silence
from tocsin.silences.v1.silence_service_pb2 import ListSilencesRequest
from tocsin.silences.v1.silence_service_pb2_grpc import SilenceServiceStub

# The length of an id, a UUID; so many candidates are named.
_ID_LENGTH = 36
_MAX_CANDIDATES = 10
# Whoever waits for a completion does not wait for long.
_COMPLETION_TIMEOUT_S = 1.0


def find_alert(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the alert whose id begins so; end the command when there are several."""

    def candidates() -> Mapping[str, str]:
        request = ListAlertsRequest(id_prefix=given, page_size=_MAX_CANDIDATES)
        page = AlertServiceStub(channel).ListAlerts(request, timeout=RPC_TIMEOUT_S)
        return {alert.id: _describe(alert) for alert in page.alerts}

    return _only_one(given, "alert", candidates, output)


def find_silence(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the silence whose id begins so; end the command when there are several."""

    def candidates() -> Mapping[str, str]:
        request = ListSilencesRequest(id_prefix=given, page_size=_MAX_CANDIDATES)
        page = SilenceServiceStub(channel).ListSilences(request, timeout=RPC_TIMEOUT_S)
        return {silence.id: _describe_silence(silence) for silence in page.silences}

    return _only_one(given, "silence", candidates, output)


def find_failed_notification(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the failed notification whose id begins so; end the command when there are several."""

    def candidates() -> Mapping[str, str]:
        statuses = [status for status in FailedNotification.Status.values() if status]
        request = ListFailedNotificationsRequest(id_prefix=given, page_size=_MAX_CANDIDATES, statuses=statuses)
        page = NotificationServiceStub(channel).ListFailedNotifications(request, timeout=RPC_TIMEOUT_S)
        return {row.id: f"{row.channel}, alert {row.alert_id}" for row in page.failed_notifications}

    return _only_one(given, "failed notification", candidates, output)


def find_incident(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the incident whose id begins so; end the command when there are several."""

    def candidates() -> Mapping[str, str]:
        request = ListIncidentsRequest(id_prefix=given, page_size=_MAX_CANDIDATES)
        page = IncidentServiceStub(channel).ListIncidents(request, timeout=RPC_TIMEOUT_S)
        return {incident.id: _describe_incident(incident) for incident in page.incidents}

    return _only_one(given, "incident", candidates, output)


def complete_alert(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of alerts that begin so, for the shell; none when the server does not answer."""
    try:
        with _completion_channel() as channel:
            request = ListAlertsRequest(id_prefix=incomplete)
            page = AlertServiceStub(channel).ListAlerts(request, timeout=_COMPLETION_TIMEOUT_S)
    except grpc.RpcError:
        return []
    return [(alert.id, printable(_describe(alert))) for alert in page.alerts if alert.id.startswith(incomplete)]


def complete_incident(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of incidents that begin so, for the shell; none when the server does not answer."""
    try:
        with _completion_channel() as channel:
            request = ListIncidentsRequest(id_prefix=incomplete)
            page = IncidentServiceStub(channel).ListIncidents(request, timeout=_COMPLETION_TIMEOUT_S)
    except grpc.RpcError:
        return []
    return [(each.id, printable(_describe_incident(each))) for each in page.incidents]


def complete_silence(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of silences that begin so, for the shell; none when the server does not answer."""
    try:
        with _completion_channel() as channel:
            request = ListSilencesRequest(id_prefix=incomplete)
            page = SilenceServiceStub(channel).ListSilences(request, timeout=_COMPLETION_TIMEOUT_S)
    except grpc.RpcError:
        return []
    return [(each.id, printable(_describe_silence(each))) for each in page.silences if each.id.startswith(incomplete)]


def complete_rule(incomplete: str) -> list[str]:
    """Return the names of rules that begin so, for the shell; none when the server does not answer."""
    try:
        with _completion_channel() as channel:
            request = ListAlertRulesRequest(page_size=MAX_PAGE_SIZE)
            page = AlertRuleServiceStub(channel).ListAlertRules(request, timeout=_COMPLETION_TIMEOUT_S)
    except grpc.RpcError:
        return []
    names = [rule.name for rule in page.alert_rules]
    # A name that is not shown as it is cannot be typed either.
    return [name for name in names if name.startswith(incomplete) and name == printable(name)]


def _completion_channel() -> grpc.Channel:
    return grpc.insecure_channel(os.environ.get("TOCSIN_SERVER") or DEFAULT_SERVER)


def _describe(alert: Alert) -> str:
    return f"{Alert.State.Name(alert.state)} {alert.rule_name} on {shown_resource(alert)}"


def _describe_incident(incident: Incident) -> str:
    return f"{Incident.State.Name(incident.state)} {incident.title}"


def _describe_silence(silence: Silence) -> str:
    return f"{Silence.State.Name(silence.state)} {', '.join(silence.matchers)}: {silence.comment}"


def _only_one(given: str, noun: str, candidates: Callable[[], Mapping[str, str]], output: OutputFormat) -> str:
    """Return the only id that begins so. What no id begins with is for the server to refuse."""
    if not given or len(given) >= _ID_LENGTH:
        return given
    # A server of the former release does not know the filter.
    found = {name: text for name, text in candidates().items() if name.startswith(given.lower())}
    if len(found) <= 1:
        return next(iter(found), given)
    details = [ErrorDetail(field=name, description=text) for name, text in sorted(found.items())]
    message = f'"{given}" is the beginning of several {noun}s; type more of the id'
    print_error(ErrorReport(code="INVALID_ARGUMENT", message=message, details=details), output, source=noun)
    raise typer.Exit(ExitCode.REFUSED)
