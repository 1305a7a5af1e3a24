"""Which rules fire too often for one resource, and until when."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.manager.core.incident import Incident, IncidentAlert


@dataclass(frozen=True, slots=True, kw_only=True)
class FlappingSettings:
    """When an alert of one rule and resource flaps: it fires so often within so long a time in one incident."""

    count: int = 4
    span: timedelta = timedelta(minutes=30)


def flap_key(alert: IncidentAlert) -> tuple[str, str]:
    """Return what flaps: a rule for a resource."""
    return alert.rule_name, alert.resource


def flapping_until(incident: Incident, settings: FlappingSettings, now: datetime) -> dict[tuple[str, str], datetime]:
    """Return which rules and resources flap in an incident, and until when if they do not fire again."""
    if len(incident.alerts) < settings.count:
        return {}
    fired: dict[tuple[str, str], list[datetime]] = {}
    for alert in incident.alerts.values():
        if alert.fire_time > now - settings.span:
            fired.setdefault(flap_key(alert), []).append(alert.fire_time)
    return {
        key: sorted(times)[-settings.count] + settings.span
        for key, times in fired.items()
        if len(times) >= settings.count
    }
