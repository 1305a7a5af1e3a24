"""An alert as an event of PagerDuty's Events API v2."""

from services.domain.severity import Severity
from services.notifier.core.message import Kind, Message
from services.notifier.core.wording import cut, evidence, facts, headline, length, many_lines, one_line

Json = dict[str, object]

_ACTION = {Kind.FIRING: "trigger", Kind.ACKNOWLEDGED: "acknowledge", Kind.RESOLVED: "resolve"}
_SEVERITY = {
    Severity.CRITICAL: "critical",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "info",
}
_SUMMARY = 1024
_DEDUP_KEY = 255


def pagerduty_body(message: Message, routing_key: str) -> Json:
    """The body of the POST: the alert's id is the dedup_key, so a repeated trigger changes nothing."""
    body: Json = {
        "routing_key": routing_key,
        "event_action": _ACTION[message.kind],
        "dedup_key": message.alert_id[:_DEDUP_KEY],
    }
    if message.kind is Kind.FIRING:
        body |= {"client": "Tocsin", "payload": _payload(message)}
    return body


def _payload(message: Message) -> Json:
    return {
        "summary": cut(headline(message), _SUMMARY),
        "source": cut(one_line(message.resource), _SUMMARY) or "unknown",
        "severity": _SEVERITY[message.severity],
        "timestamp": message.fire_time.isoformat(timespec="milliseconds"),
        "component": cut(one_line(message.resource), _SUMMARY),
        "class": cut(one_line(message.rule), _SUMMARY),
        "custom_details": _details(message),
    }


def _details(message: Message) -> Json:
    details: Json = {name.lower(): value for name, value in facts(message)}
    labels = {one_line(name): one_line(value) for name, value in message.labels.items()}
    details |= {"description": many_lines(message.description), "labels": labels}
    if message.window is not None:
        details |= {
            "count": message.window.count,
            "total": message.window.total,
            "threshold": message.window.threshold,
            "window": length(message.window.length),
        }
    details["samples"] = [
        {"where": evidence(sample), "message": many_lines(sample.text), "trace_id": sample.trace_id}
        for sample in message.samples
    ]
    return details
