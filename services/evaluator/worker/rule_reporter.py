"""Report to the manager what was counted by rule, each count once, and which rules are not evaluated."""

from collections.abc import Callable, Mapping

from services.evaluator.core.rule_problems import SetAsideRule
from services.evaluator.ports import RuleCounts, RuleReport, RuleReports


class RuleReporter:
    """Sends what was added since the last report, and which rules are not evaluated.

    A report that may have arrived is sent again as it was. While there are problems each turn reports them, also when
    nothing was added: the manager forgets those of an instance that is silent.
    """

    def __init__(
        self,
        reports: RuleReports,
        counts: Callable[[], Mapping[str, RuleCounts]],
        problems: Callable[[], Mapping[str, SetAsideRule]],
        new_id: Callable[[], str],
    ) -> None:
        self._reports = reports
        self._counts = counts
        self._problems = problems
        self._new_id = new_id
        self._reported: Mapping[str, RuleCounts] = {}
        self._has_problems = False
        self._unconfirmed: tuple[RuleReport, Mapping[str, RuleCounts]] | None = None

    async def turn(self) -> None:
        """Send one report, if there is anything to report. Raises Failure."""
        report, counts = self._unconfirmed or self._next()
        if not report.added and not report.problems and not self._has_problems:
            return
        self._unconfirmed = report, counts
        await self._reports.send(report)
        self._reported, self._has_problems, self._unconfirmed = counts, bool(report.problems), None

    def _next(self) -> tuple[RuleReport, Mapping[str, RuleCounts]]:
        """Return the next report, and the counts up to which it goes."""
        counts = self._counts()
        added = added_since(self._reported, counts)
        return RuleReport(id=self._new_id(), added=added, problems=self._problems()), counts


def added_since(before: Mapping[str, RuleCounts], now: Mapping[str, RuleCounts]) -> Mapping[str, RuleCounts]:
    """Return by rule what was added, without rules that did nothing. What has become less began again at 0."""
    added = {rule_id: _added(before.get(rule_id, RuleCounts()), counts) for rule_id, counts in now.items()}
    return {rule_id: counts for rule_id, counts in added.items() if counts != RuleCounts()}


def _added(before: RuleCounts, now: RuleCounts) -> RuleCounts:
    counted = ("matched", "late", "beyond_limit", "fired")
    if any(getattr(now, name) < getattr(before, name) for name in counted):
        before = RuleCounts()
    return RuleCounts(
        **{name: getattr(now, name) - getattr(before, name) for name in counted},
        evaluate_time=now.evaluate_time if now.evaluate_time != before.evaluate_time else None,
    )
