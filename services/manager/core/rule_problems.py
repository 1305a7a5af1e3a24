"""Rules that evaluators do not evaluate: what each instance reports, and what that adds to the rules' histories."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.problem_reason import ProblemReason

# The problems of an instance that has not reported for so long are not shown. Evaluators report every ten seconds.
REPORT_EXPIRY = timedelta(seconds=60)
MAX_PROBLEM_CHARACTERS = 512


class RuleHistoryKind(StrEnum):
    """What happened to a rule; the names are stored, and those of the contract."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    SET_ASIDE = "SET_ASIDE"
    RESUMED = "RESUMED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedProblem:
    """Why one instance of the evaluator does not evaluate a rule, since when, and when it tries again."""

    instance: str
    reason: ProblemReason
    description: str
    set_aside_time: datetime
    retry_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHistoryEntry:
    """One thing that happened to a rule; reason, description and instance are those of a problem."""

    kind: RuleHistoryKind
    create_time: datetime
    reason: ProblemReason | None = None
    description: str = ""
    instance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemChanges:
    """What a report changes, by rule id: the problems that there are now, those that are over, and new history."""

    current: Mapping[str, ReportedProblem]
    over: frozenset[str]
    history: Mapping[str, RuleHistoryEntry]


def apply_report(
    stored: Mapping[str, ReportedProblem], reported: Mapping[str, ReportedProblem], now: datetime
) -> ProblemChanges:
    """Compare what an instance reports with what it reported before. The same report twice adds no history."""
    current = {rule_id: _merged(stored.get(rule_id), problem) for rule_id, problem in reported.items()}
    begun = {
        rule_id: RuleHistoryEntry(
            kind=RuleHistoryKind.SET_ASIDE,
            create_time=problem.set_aside_time,
            reason=problem.reason,
            description=problem.description,
            instance=problem.instance,
        )
        for rule_id, problem in current.items()
        if not _is_same(stored.get(rule_id), problem)
    }
    over = stored.keys() - reported.keys()
    ended = {
        rule_id: RuleHistoryEntry(kind=RuleHistoryKind.RESUMED, create_time=now, instance=stored[rule_id].instance)
        for rule_id in over
    }
    return ProblemChanges(current=current, over=frozenset(over), history={**begun, **ended})


def _merged(stored: ReportedProblem | None, reported: ReportedProblem) -> ReportedProblem:
    """Return what is reported; a rule that cannot be compiled is not new because the evaluator was started again."""
    is_known = (
        stored is not None
        and reported.reason is ProblemReason.COMPILE_FAILED
        and (stored.reason, stored.description) == (reported.reason, reported.description)
    )
    return replace(reported, set_aside_time=stored.set_aside_time) if stored is not None and is_known else reported


def _is_same(stored: ReportedProblem | None, current: ReportedProblem) -> bool:
    return stored is not None and (stored.reason, stored.set_aside_time) == (current.reason, current.set_aside_time)
