"""Report to the manager what was counted by rule, each count once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.evaluator.ports import RuleCounts, RuleReports


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """A report, and the counts up to which it goes."""

    id: str
    added: Mapping[str, RuleCounts]
    counts: Mapping[str, RuleCounts]


class RuleReporter:
    """Sends what was added since the last report; a report that may have arrived is sent again as it was."""

    def __init__(
        self, reports: RuleReports, counts: Callable[[], Mapping[str, RuleCounts]], new_id: Callable[[], str]
    ) -> None:
        self._reports = reports
        self._counts = counts
        self._new_id = new_id
        self._reported: Mapping[str, RuleCounts] = {}
        self._unconfirmed: _Report | None = None

    async def turn(self) -> None:
        """Send one report, if there is anything to report. Raises Failure."""
        report = self._unconfirmed or self._next()
        if not report.added:
            return
        self._unconfirmed = report
        await self._reports.send(report.id, report.added)
        self._reported, self._unconfirmed = report.counts, None

    def _next(self) -> _Report:
        counts = self._counts()
        return _Report(id=self._new_id(), added=added_since(self._reported, counts), counts=counts)


def added_since(before: Mapping[str, RuleCounts], now: Mapping[str, RuleCounts]) -> Mapping[str, RuleCounts]:
    """Return by rule what was added, without rules that did nothing. What has become less began again at 0."""
    added = {rule_id: _added(before.get(rule_id, RuleCounts()), counts) for rule_id, counts in now.items()}
    return {rule_id: counts for rule_id, counts in added.items() if counts != RuleCounts()}


def _added(before: RuleCounts, now: RuleCounts) -> RuleCounts:
    if now.matched < before.matched or now.late < before.late or now.fired < before.fired:
        before = RuleCounts()
    return RuleCounts(
        matched=now.matched - before.matched,
        late=now.late - before.late,
        fired=now.fired - before.fired,
        evaluate_time=now.evaluate_time if now.evaluate_time != before.evaluate_time else None,
    )
