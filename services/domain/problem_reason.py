"""Why a rule is not evaluated."""

from enum import StrEnum


class ProblemReason(StrEnum):
    """Log field, metric label, and the name in the contract and in the store."""

    COMPILE_FAILED = "COMPILE_FAILED"
    EVALUATION_FAILED = "EVALUATION_FAILED"
    OVER_BUDGET = "OVER_BUDGET"
