"""The evaluator's transitions, as tests of the manager need them."""

from datetime import UTC, datetime, timedelta

from services.domain.fingerprint import digest, fingerprint, open_key
from services.domain.severity import Severity
from services.manager.core.alert import AlertSubject
from services.manager.core.alert_lifecycle import Ended, Evaluation, Fired
from services.manager.core.transitions import ReceivedTransition

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOW = START + timedelta(hours=1)
WINDOW = timedelta(minutes=5)


def a_subject(
    resource: str = "payment-service", *, rule_id: str = "rule-1", severity: Severity = Severity.HIGH
) -> AlertSubject:
    return AlertSubject(
        open_key=open_key(rule_id=rule_id, resource=resource),
        fingerprint=fingerprint(rule_id=rule_id, resource=resource, severity=severity),
        severity=severity,
        rule_id=rule_id,
        rule_name="High error count",
        description="Many errors.",
        resource=resource,
        evidence=b"",
        labels={"alertname": "High error count", "severity": severity.name, "service": resource},
    )


def a_transition(
    kind: type[Fired] | type[Ended] = Fired,
    *,
    subject: AlertSubject | None = None,
    episode: int = 0,
    window: int | None = None,
    revision: int = 1,
    selection: int = 1,
) -> ReceivedTransition:
    at = episode if window is None else window
    about = subject or a_subject()
    evaluation = Evaluation(
        episode=START + episode * WINDOW,
        selection_revision=selection,
        rule_revision=revision,
        time=START + at * WINDOW,
        severity=about.severity,
    )
    return ReceivedTransition(
        id=digest(about.rule_id, about.resource, str(at), kind.__name__, str(selection), str(revision)),
        subject=about,
        observation=kind(evaluation),
    )
