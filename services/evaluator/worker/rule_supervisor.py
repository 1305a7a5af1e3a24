"""Measures what each rule takes of the match stage, and sets rules aside that take too much or fail."""

from collections.abc import Callable, Mapping

import structlog

from services.chassis.clock import Clock
from services.evaluator.core.match.aggregation import MatchOutcome
from services.evaluator.core.match.cpu_meter import CpuClock
from services.evaluator.core.match.rule_load import Budget, Measurement, RuleVersion
from services.evaluator.core.rule_problems import RuleHealth, SetAsideRule, refused, supervise
from services.evaluator.core.rules import CompiledRule, RuleSet
from services.evaluator.metrics import Metrics

log = structlog.get_logger()

# To ask for the CPU time around each rule costs half a microsecond: in fetches that are short it is done now and then.
_MEASURE_EVERY_SECONDS = 0.25
_DECIDE_EVERY_SECONDS = 1.0


class RuleSupervisor:
    """Says which rules a fetch is matched without, and why; told what each fetch took and which rules failed."""

    def __init__(
        self,
        *,
        clock: Clock,
        cpu_clock: CpuClock,
        metrics: Metrics,
        budget: Budget,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._metrics = metrics
        self._budget = budget
        self._health = RuleHealth()
        self._versions: Mapping[RuleVersion, CompiledRule] = {}
        self._logged_failures: dict[str, CompiledRule] = {}
        self._rules: RuleSet | None = None
        self._refused: Mapping[str, SetAsideRule] = {}
        self._decided_at = float("-inf")
        # When a fetch was measured, and what was matched since then.
        self._measured_at = clock.monotonic()
        self._busy = self._cpu = 0.0
        self.set_aside: frozenset[CompiledRule] = frozenset()

    @property
    def problems(self) -> Mapping[str, SetAsideRule]:
        """The rules that are not evaluated here, by id."""
        return {**self._refused, **{rule_id: each for (rule_id, _), each in self._health.problems.items()}}

    def use(self, rules: RuleSet) -> None:
        """Use these rules from now on. An edited rule begins anew, whatever was decided of it before."""
        if rules is self._rules:
            return
        self._rules = rules
        self._versions = {(each.rule.id, each.rule.revision): each for each in rules.rules.values()}
        now, before = self._clock.now(), self._refused
        found = {rule_id: refused(error, now) for rule_id, error in rules.refused.items()}
        self._refused = {rule_id: self._since_before(rule_id, problem) for rule_id, problem in found.items()}
        if self._refused != before:
            self._on_change()
        self._decide()

    def turn(self, rules: RuleSet | None) -> None:
        """Decide, if it is time."""
        if rules is not None:
            self.use(rules)
        if self._clock.monotonic() >= self._decided_at + _DECIDE_EVERY_SECONDS:
            self._decide()

    def clock_for_fetch(self) -> CpuClock | None:
        """Return the clock to measure the next fetch with; None if it need not be measured rule by rule."""
        is_due = self._clock.monotonic() - self._measured_at >= _MEASURE_EVERY_SECONDS
        return self._cpu_clock if is_due else None

    def timed(self, match: Callable[[], MatchOutcome]) -> tuple[MatchOutcome, float]:
        """Match a fetch in this thread; return the outcome, and the seconds of CPU that it took."""
        began = self._cpu_clock()
        outcome = match()
        return outcome, self._cpu_clock() - began

    def fetched(self, outcome: MatchOutcome, *, busy: float, cpu: float, is_measured: bool) -> None:
        """Take into account what a fetch took (seconds of the wall clock, and of CPU), and which rules failed."""
        self._busy += busy
        self._cpu += cpu
        self.failed(outcome)
        if is_measured:
            self._measure(outcome, cpu)

    def failed(self, outcome: MatchOutcome) -> None:
        """Take into account which rules failed: count each failure, and log the first of each revision."""
        self._health = self._health.fetched([_version(compiled) for compiled in outcome.failed])
        for compiled, error in outcome.failed.items():
            self._metrics.rule_failed()
            if self._logged_failures.get(compiled.rule.id) is not compiled:
                self._logged_failures[compiled.rule.id] = compiled
                log.error("rule_failed", rule_id=compiled.rule.id, rule=compiled.rule.name, exc_info=error)

    def _measure(self, outcome: MatchOutcome, cpu: float) -> None:
        now = self._clock.monotonic()
        measurement = Measurement(
            elapsed=now - self._measured_at,
            busy=self._busy,
            cpu=self._cpu,
            measured=cpu,
            rules={_version(compiled): seconds for compiled, seconds in outcome.costs.items()},
        )
        self._measured_at, self._busy, self._cpu = now, 0.0, 0.0
        self._health = self._health.measured(measurement, self._budget)

    def _decide(self) -> None:
        self._decided_at = self._clock.monotonic()
        before = self._health
        self._health = supervise(before, self._versions, self._budget, self._clock.now())
        if before.problems != self._health.problems:
            self._log_changes(before)
            self._on_change()
        problems = self._health.problems
        self.set_aside = frozenset(self._versions[version] for version in problems)
        shares = {rule_id: share for (rule_id, _), share in self._health.load.shares.items()}
        self._metrics.rules_supervised([each.reason for each in self.problems.values()], shares)

    def _log_changes(self, before: RuleHealth) -> None:
        for version, problem in self._health.problems.items():
            if before.problems.get(version) != problem:
                log.error(
                    "rule_set_aside",
                    rule_id=version[0],
                    rule=self._versions[version].rule.name,
                    reason=problem.reason.value,
                    problem=problem.description,
                    retry_at=problem.retry_at.isoformat() if problem.retry_at else None,
                )
        for version in before.problems.keys() & self._versions.keys() - self._health.problems.keys():
            log.warning("rule_resumed", rule_id=version[0], rule=self._versions[version].rule.name)

    def _since_before(self, rule_id: str, problem: SetAsideRule) -> SetAsideRule:
        before = self._refused.get(rule_id)
        return before if before is not None and before.description == problem.description else problem


def _version(compiled: CompiledRule) -> RuleVersion:
    return compiled.rule.id, compiled.rule.revision
