"""The rules that a new system starts with; people may change and delete them like their own."""

from services.domain.severity import Severity
from services.rule_language.rule import Draft, RuleType

# The seed's name: a database that has had it is never given these again.
SEED = "default-rules"

DEFAULT_RULES: tuple[Draft, ...] = (
    Draft(
        name="High error count",
        description="More than 100 errors of one service within five minutes.",
        type=RuleType.ERROR_THRESHOLD,
        threshold=100.0,
        window_minutes=5,
        severity=Severity.CRITICAL,
    ),
    Draft(
        name="Slow responses",
        description="More than 50 responses of one service within five minutes took longer than two seconds.",
        type=RuleType.LATENCY_THRESHOLD,
        threshold=50.0,
        window_minutes=5,
        severity=Severity.HIGH,
    ),
    Draft(
        name="Failed responses",
        description="More than 25 responses of one service within five minutes had a status of 500 or above.",
        type=RuleType.ERROR_RATE,
        threshold=25.0,
        window_minutes=5,
        severity=Severity.CRITICAL,
    ),
)
