"""The stateful stores by the names that runbooks use: one for each type of rule."""

from collections.abc import Mapping

from services.rule_language.rule import RuleType

STORES: Mapping[RuleType, str] = {
    RuleType.ERROR_THRESHOLD: "error-count",
    RuleType.LATENCY_THRESHOLD: "latency",
    RuleType.ERROR_RATE: "error-rate",
    RuleType.CUSTOM: "custom",
}
