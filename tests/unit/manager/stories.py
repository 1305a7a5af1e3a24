"""Words of the evaluator, as tests of the manager tell them."""

from datetime import UTC, datetime, timedelta

from services.domain.alert import Ended, Fired, Verdict
from services.domain.fingerprint import digest, fingerprint, open_key
from services.domain.severity import Severity
from services.manager.core.alert import Subject
from services.manager.core.commands.transitions import Transition

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOW = START + timedelta(hours=1)
WINDOW = timedelta(minutes=5)


def subject(
    resource: str = "payment-service", *, rule_id: str = "rule-1", severity: Severity = Severity.HIGH
) -> Subject:
    return Subject(
        open_key=open_key(rule_id=rule_id, resource=resource),
        fingerprint=fingerprint(rule_id=rule_id, resource=resource, severity=severity),
        severity=severity,
        rule_id=rule_id,
        rule_name="High error count",
        description="Many errors.",
        resource=resource,
        evidence=b"",
    )


def word(
    kind: type[Fired] | type[Ended] = Fired,
    *,
    about: Subject | None = None,
    episode: int = 0,
    window: int | None = None,
    revision: int = 1,
    selection: int = 1,
) -> Transition:
    at = episode if window is None else window
    found = about or subject()
    verdict = Verdict(
        episode=START + episode * WINDOW,
        selection=selection,
        revision=revision,
        time=START + at * WINDOW,
        severity=found.severity,
    )
    return Transition(
        id=digest(found.rule_id, found.resource, str(at), kind.__name__, str(selection), str(revision)),
        subject=found,
        word=kind(verdict),
    )
