"""Which rules are set aside, so that one rule can neither starve the others nor fail for ever.

A rule is set aside when it has been over its budget (`rule_load`) for a period, in which the match stage was behind all
the time: then the others wait for it. On an idle machine nobody waits, and the last rule that is evaluated keeps nobody
waiting. It is also set aside when it failed on several fetches in a row: it would miss their events anyway. A fetch on
which it does not fail ends the row, so one odd event does nothing.

It is tried again after a pause that doubles each time, up to an hour; of those over budget one at a time, so that they
do not come back together. An edit makes another version of a rule, which begins anew.

What a rule misses while it is set aside its windows know, so its alerts stay as they are. Each function takes values
and returns a new state; the order of the rules does not matter.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from services.domain.problem_reason import ProblemReason
from services.evaluator.core.match.rule_load import Budget, Measurement, RuleLoad, RuleVersion, over_budget
from services.rule_language.diagnostics import ExpressionError
from services.rule_language.rule import RuleError

_FAILURES = 5
# So many periods a rule that was over its budget has for itself when it is tried again.
_PERIODS_OF_A_TRIAL = 2
_FIRST_PAUSE = timedelta(minutes=1)
_MAX_PAUSE = timedelta(hours=1)
_FAILED = f"it could not be evaluated on {_FAILURES} fetches in a row; rule_failed in the evaluator's log says why"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAsideRule:
    """Why a rule is not evaluated, in words, since when, and when it is tried again; None: not before it is edited."""

    reason: ProblemReason
    description: str
    since: datetime
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """The last time for which a rule was set aside: its length, and when the rule was or will be tried again."""

    length: timedelta
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHealth:
    """The rules that are set aside, and what is known of the others; begin with an empty one."""

    problems: Mapping[RuleVersion, SetAsideRule] = field(default_factory=dict)
    load: RuleLoad = field(default_factory=RuleLoad)
    # Since when rules have been over their budget while the stage was behind.
    over_since: Mapping[RuleVersion, datetime] = field(default_factory=dict)
    # On how many fetches in a row rules have failed.
    failures: Mapping[RuleVersion, int] = field(default_factory=dict)
    # Of rules that are set aside, or were not long ago.
    pauses: Mapping[RuleVersion, Pause] = field(default_factory=dict)
    # When a rule that was over its budget was last tried again.
    tried_at: datetime | None = None

    def measured(self, measurement: Measurement, budget: Budget) -> "RuleHealth":
        """Take a measurement into account."""
        return replace(self, load=self.load.add(measurement, budget))

    def fetched(self, failed: Collection[RuleVersion]) -> "RuleHealth":
        """Take into account which rules failed on a fetch; a row of failures ends for all others."""
        if not failed and not self.failures:
            return self
        return replace(self, failures={version: self.failures.get(version, 0) + 1 for version in failed})


def supervise(health: RuleHealth, known: Collection[RuleVersion], budget: Budget, now: datetime) -> RuleHealth:
    """Forget versions that are not known any more, try rules again, and set rules aside."""
    health = _try_again(_only(health, known), budget, now)
    failed = [version for version, count in health.failures.items() if count >= _FAILURES]
    health = _set_aside(health, dict.fromkeys(failed, _FAILED), ProblemReason.EVALUATION_FAILED, now)
    over = over_budget(health.load.shares, budget) if health.load.is_behind(budget) else []
    since = {version: health.over_since.get(version, now) for version in over}
    due = [version for version in over if now - since[version] >= budget.period]
    # The last rule that is evaluated keeps nobody waiting.
    due = due[: max(len(known) - len(health.problems) - 1, 0)]
    problems = {version: _over(health.load.shares[version], budget) for version in due}
    return _set_aside(replace(health, over_since=since), problems, ProblemReason.OVER_BUDGET, now)


def _only(health: RuleHealth, known: Collection[RuleVersion]) -> RuleHealth:
    gone = {*health.problems, *health.load.rules, *health.failures, *health.pauses}.difference(known)
    if not gone:
        return health
    return replace(
        health,
        problems=_without(health.problems, gone),
        load=health.load.without(gone),
        failures=_without(health.failures, gone),
        pauses=_without(health.pauses, gone),
    )


def _try_again(health: RuleHealth, budget: Budget, now: datetime) -> RuleHealth:
    """Evaluate rules whose pause is over; forget the pauses of those that have been well for as long since."""
    waiting = sorted((pause.end, version) for version, pause in health.pauses.items() if version in health.problems)
    ended = [version for end, version in waiting if end <= now]
    costly = [version for version in ended if health.problems[version].reason is ProblemReason.OVER_BUDGET]
    is_free = health.tried_at is None or now - health.tried_at >= _PERIODS_OF_A_TRIAL * budget.period
    held_back = costly[1:] if is_free else costly
    tried = [version for version in ended if version not in held_back]
    pauses = {
        version: replace(pause, end=now) if version in tried else pause
        for version, pause in health.pauses.items()
        if version in health.problems or now - pause.end < pause.length
    }
    return replace(
        health,
        problems=_without(health.problems, tried),
        pauses=pauses,
        tried_at=now if costly and is_free else health.tried_at,
    )


def _set_aside(
    health: RuleHealth, descriptions: Mapping[RuleVersion, str], reason: ProblemReason, now: datetime
) -> RuleHealth:
    pauses = {version: _next_pause(health.pauses.get(version), now) for version in descriptions}
    problems = {
        version: SetAsideRule(reason=reason, description=text, since=now, retry_at=pauses[version].end)
        for version, text in descriptions.items()
    }
    return replace(
        health,
        problems={**health.problems, **problems},
        load=health.load.without(descriptions),
        over_since=_without(health.over_since, descriptions),
        failures=_without(health.failures, descriptions),
        pauses={**health.pauses, **pauses},
    )


def _next_pause(before: Pause | None, now: datetime) -> Pause:
    length = _FIRST_PAUSE if before is None else min(2 * before.length, _MAX_PAUSE)
    return Pause(length, now + length)


def refused(error: Exception, now: datetime) -> SetAsideRule:
    """Return the problem of a rule that cannot be compiled, in the words in which the check of a rule says it."""
    is_told = isinstance(error, (ExpressionError, RuleError))
    description = str(error) if is_told else "it could not be compiled; rule_refused in the evaluator's log says why"
    return SetAsideRule(reason=ProblemReason.COMPILE_FAILED, description=description, since=now)


def _over(share: float, budget: Budget) -> str:
    """Say that a rule is over its budget: by itself, or as one of those that are together."""
    taken = f"its own expressions took {share:.0%} of the CPU of the match stage, which could not keep up"
    if share > budget.rule_share:
        return f"{taken}; one rule may take {budget.rule_share:.0%}"
    return f"{taken}, and all rules together more than {budget.rules_share:.0%}"


def _without(values: Mapping[RuleVersion, _Value], gone: Collection[RuleVersion]) -> Mapping[RuleVersion, _Value]:
    return {version: value for version, value in values.items() if version not in gone}
