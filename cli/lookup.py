"""Find an alert, a delivery or a rule by what people type: the beginning of its id, or a rule's name."""

import os
from collections.abc import Callable, Mapping

import grpc
import typer

from cli.alert_tables import shown_resource
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ExitCode
from cli.credentials import channel_with_credentials
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


# Returns what has an id that begins so, described for people, by the id.
_Listing = Callable[[grpc.Channel, str, int, float], Mapping[str, str]]


def find_alert(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the alert whose id begins so; end the command when there are several."""
    return _only_one(channel, given, "alert", _list_alerts, output)


def find_explainable(channel: grpc.Channel, given: str, output: OutputFormat) -> tuple[str, bool]:
    """Return the id of the alert or incident whose id begins so, and whether it is an incident's.

    End the command when there are several. A whole id that is neither is for the server to refuse, as an alert's.
    """
    incidents = _list_incidents(channel, given, _MAX_CANDIDATES, RPC_TIMEOUT_S)

    def listing(channel: grpc.Channel, id_prefix: str, page_size: int, timeout_s: float) -> Mapping[str, str]:
        alerts = _list_alerts(channel, id_prefix, page_size, timeout_s)
        described = {name: f"alert, {text}" for name, text in alerts.items()}
        return described | {name: f"incident, {text}" for name, text in incidents.items()}

    found = _only_one(channel, given, "alert or incident", listing, output)
    return found, found in incidents


def find_silence(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the silence whose id begins so; end the command when there are several."""
    return _only_one(channel, given, "silence", _list_silences, output)


def find_failed_notification(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the failed notification whose id begins so; end the command when there are several."""
    return _only_one(channel, given, "failed notification", _list_failed_notifications, output)


def find_incident(channel: grpc.Channel, given: str, output: OutputFormat) -> str:
    """Return the id of the incident whose id begins so; end the command when there are several."""
    return _only_one(channel, given, "incident", _list_incidents, output)


def complete_alert(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of alerts that begin so, for the shell; none when the server does not answer."""
    return _completions(incomplete, _list_alerts)


def complete_incident(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of incidents that begin so, for the shell; none when the server does not answer."""
    return _completions(incomplete, _list_incidents)


def complete_silence(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of silences that begin so, for the shell; none when the server does not answer."""
    return _completions(incomplete, _list_silences)


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
    return channel_with_credentials(os.environ.get("TOCSIN_SERVER") or DEFAULT_SERVER)


def _completions(incomplete: str, listing: _Listing) -> list[tuple[str, str]]:
    try:
        with _completion_channel() as channel:
            found = listing(channel, incomplete, 0, _COMPLETION_TIMEOUT_S)
    except grpc.RpcError:
        return []
    return [(name, printable(text)) for name, text in found.items() if name.startswith(incomplete)]


def _list_alerts(channel: grpc.Channel, id_prefix: str, page_size: int, timeout_s: float) -> Mapping[str, str]:
    request = ListAlertsRequest(id_prefix=id_prefix, page_size=page_size)
    page = AlertServiceStub(channel).ListAlerts(request, timeout=timeout_s)
    return {
        alert.id: f"{Alert.State.Name(alert.state)} {alert.rule_name} on {shown_resource(alert)}"
        for alert in page.alerts
    }


def _list_silences(channel: grpc.Channel, id_prefix: str, page_size: int, timeout_s: float) -> Mapping[str, str]:
    request = ListSilencesRequest(id_prefix=id_prefix, page_size=page_size)
    page = SilenceServiceStub(channel).ListSilences(request, timeout=timeout_s)
    return {
        silence.id: f"{Silence.State.Name(silence.state)} {', '.join(silence.matchers)}: {silence.comment}"
        for silence in page.silences
    }


def _list_incidents(channel: grpc.Channel, id_prefix: str, page_size: int, timeout_s: float) -> Mapping[str, str]:
    request = ListIncidentsRequest(id_prefix=id_prefix, page_size=page_size)
    page = IncidentServiceStub(channel).ListIncidents(request, timeout=timeout_s)
    return {incident.id: f"{Incident.State.Name(incident.state)} {incident.title}" for incident in page.incidents}


def _list_failed_notifications(
    channel: grpc.Channel, id_prefix: str, page_size: int, timeout_s: float
) -> Mapping[str, str]:
    statuses = [status for status in FailedNotification.Status.values() if status]
    request = ListFailedNotificationsRequest(id_prefix=id_prefix, page_size=page_size, statuses=statuses)
    page = NotificationServiceStub(channel).ListFailedNotifications(request, timeout=timeout_s)
    return {row.id: f"{row.channel}, alert {row.alert_id}" for row in page.failed_notifications}


def _only_one(channel: grpc.Channel, given: str, noun: str, listing: _Listing, output: OutputFormat) -> str:
    """Return the only id that begins so; end the command when there is none, or several."""
    if not given or len(given) >= _ID_LENGTH:
        return given
    # A server of the former release does not know the filter.
    candidates = listing(channel, given, _MAX_CANDIDATES, RPC_TIMEOUT_S)
    found = {name: text for name, text in candidates.items() if name.startswith(given.lower())}
    if len(found) == 1:
        return next(iter(found))
    details = [ErrorDetail(field=name, description=text) for name, text in sorted(found.items())]
    code, message = "INVALID_ARGUMENT", f'"{given}" is the beginning of several {noun}s; type more of the id'
    if not found:
        code, message = "NOT_FOUND", f'no {noun} has an id that begins with "{given}"'
    print_error(ErrorReport(code=code, message=message, details=details), output, source=noun)
    raise typer.Exit(ExitCode.REFUSED)
