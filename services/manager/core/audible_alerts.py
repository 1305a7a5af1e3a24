"""What a plan of notifications reads of an incident: which alerts are audible, and which one messages are about."""

from collections.abc import Iterable, Sequence

from services.domain.values import replaced
from services.manager.core.incident import Incident, IncidentAlert
from services.manager.core.routing_tree import AlertRoute

_MAX_PATHS = 5


def with_audible(incident: Incident) -> Incident:
    """Return an incident that has marked which of its alerts are no longer withheld; they stay so until they end."""
    if incident.merged_into or all(alert.audible_version or alert.withheld_by for alert in incident.alerts.values()):
        return incident
    marked = {
        alert.id: alert
        if alert.audible_version or alert.withheld_by
        else replaced(alert, audible_version=incident.version)
        for alert in incident.alerts.values()
    }
    return replaced(incident, alerts=marked)


def subject_alert_of(incident: Incident) -> IncidentAlert:
    """Return the alert that messages about an incident are about: its cause, unless that is withheld."""
    cause = incident.alerts[incident.cause]
    if cause.audible_version:
        return cause
    audible = (alert for alert in incident.alerts.values() if alert.audible_version)
    return next(iter(incident.live_alerts), next(audible, cause))


def routes_to(name: str, alert: IncidentAlert) -> list[AlertRoute]:
    """Return the routes of an alert that name a receiver."""
    return [route for route in alert.routes if name in route.receivers]


def words_of_routes(routes: Sequence[AlertRoute]) -> str:
    """Return which routes have decided, as people read it."""
    paths = [route.path for route in routes[:_MAX_PATHS] if route.path]
    return f"route {', '.join(paths)}" if paths else "routes of the notifier's file"


def worst_alert(alerts: Iterable[IncidentAlert]) -> IncidentAlert:
    """Return the alert with the highest severity, of several the first one."""
    return min(alerts, key=lambda alert: (-alert.severity, alert.fire_time, alert.id))
