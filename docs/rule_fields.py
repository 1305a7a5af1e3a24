"""What the fields of a rule mean, in words: for the tables of docs/rules.md."""

from datetime import timedelta

from services.domain.severity import Severity
from services.rule_language import checking, restrictions

_EVENT_EXPRESSION = f"over an event, at most {checking.MAX_CHARACTERS} characters"
_LABEL_SIZES = f"{restrictions.MAX_LABEL_KEY} and {restrictions.MAX_LABEL_VALUE}"
_SECONDS = restrictions.MAX_WINDOW // timedelta(seconds=1)

# Of each field that a rule may set: what it means, its bound, and an example.
RULE_FIELDS = {
    "name": ("A unique name for people.", f"1 to {restrictions.MAX_NAME} characters", "Payment timeouts"),
    "description": (
        "What it means and what to do.", f"at most {restrictions.MAX_DESCRIPTION} characters", "Look at the pool first."
    ),
    "type": ("What fills in what is left out, see below.", "", "CUSTOM"),
    "scope": ("Which events `total` counts.", _EVENT_EXPRESSION, 'service == "payment-service"'),
    "filter": ("Which events of the scope `count` counts.", _EVENT_EXPRESSION, "level >= ERROR"),
    "groupBy": ("By what events are grouped, see below.", f"at most {restrictions.MAX_GROUP_BY} fields", "[host]"),
    "valueField": (
        "The number that `sum`, `avg`, `min` and `max` aggregate.",
        f"{', '.join(restrictions.VALUE_FIELDS)} or attributes.NAME, where what is no number is passed over",
        "attributes.size",
    ),
    "condition": (
        "When a window is an alert.", f"over a window, at most {checking.MAX_CHARACTERS} characters", "avg > threshold"
    ),
    "threshold": ("The number that conditions call `threshold`.", "finite, not negative", "20"),
    "windowMinutes": (
        "How long a window is, in minutes.", f"1 to {restrictions.MAX_MINUTES}", "5"
    ),
    "window": ("How long a window is.", f"whole seconds, 1s to {_SECONDS}s", "90s"),
    "lateness": (
        "How long after its end a window still takes events.",
        f"0s to {restrictions.MAX_LATENESS // timedelta(seconds=1)}s",
        "10s",
    ),
    "severity": ("How urgent its alerts are, see below.", "", "HIGH"),
    "labels": (
        "Copied to each of its alerts, for routing and reading.",
        f"at most {restrictions.MAX_LABELS}; keys and values at most {_LABEL_SIZES} characters",
        "{team: payments}",
    ),
    "enabled": ("Whether it is evaluated.", "", "false"),
}  # fmt: skip

GROUPING_VALUES = {
    "service": "The service.",
    "level": "`TRACE` to `FATAL`, as a word.",
    "host": "The host; events without one are a group of their own.",
    "status_code": "The status code; events without one are a group of their own.",
    "attributes.NAME": "The attribute; its name may have dots. Events without it are a group of their own.",
}

SEVERITY_MEANINGS = {
    Severity.LOW: "worth knowing",
    Severity.MEDIUM: "worth a look today",
    Severity.HIGH: "worth a look now",
    Severity.CRITICAL: "worth waking somebody",
}
