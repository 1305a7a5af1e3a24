"""RuleStatisticsService: what the evaluators have counted of each rule, and which rules they do not evaluate."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.chassis.callers import current_caller
from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.chassis.tenants import as_tenant, tenant_served
from services.contract.timestamps import datetime_of, timestamp_of
from services.domain.problem_reason import ProblemReason
from services.manager.core.rule import MAX_RULES, RuleStatistics
from services.manager.core.rule_problems import MAX_PROBLEM_CHARACTERS, REPORT_EXPIRY, ReportedProblem, apply_report
from services.manager.messages.rules import problem_message, rule_history_message
from services.manager.ports.readers import RuleProblemReader, RuleStatisticsReader
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import RuleNotFound
from services.manager.rpc.requests import act_once, check_fields, check_length, refuse_if_any
from tocsin.rules.v1 import rule_statistics_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_pb2 import RuleProblem as RuleProblemMessage
from tocsin.rules.v1.rule_statistics_service_pb2_grpc import (
    RuleStatisticsServiceServicer,
    add_RuleStatisticsServiceServicer_to_server,
)

# No evaluator counts as many in ten seconds; sums of so many fit into the store.
_MAX_COUNT = 2**40
_MAX_INSTANCE = 128
# Of a rule, in a response.
_MAX_HISTORY = 50
_MAX_PROBLEMS = 5
_REASONS = frozenset(RuleProblemMessage.Reason.Value(reason.value) for reason in ProblemReason)


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class RuleStatisticsRpc(RuleStatisticsServiceServicer):
    """Serves and adds up statistics."""

    def __init__(self, store: Store, reader: RuleStatisticsReader, problems: RuleProblemReader, clock: Clock) -> None:
        self._store = store
        self._reader = reader
        self._problems = problems
        self._clock = clock

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["RuleStatisticsService"].full_name,
            lambda server: add_RuleStatisticsServiceServicer_to_server(self, server),
        )

    async def GetRuleStatistics(
        self, request: pb.GetRuleStatisticsRequest, _context: Any
    ) -> pb.GetRuleStatisticsResponse:
        check_fields(request, "id")
        statistics = await self._reader.get(request.id)
        if statistics is None:
            raise RuleNotFound("there is no alert rule with this id", rule_id=request.id)
        history = await self._problems.history(request.id, _MAX_HISTORY)
        return pb.GetRuleStatisticsResponse(
            statistics=_message_of(statistics), history=map(rule_history_message, history)
        )

    async def ReportRuleStatistics(
        self, request: pb.ReportRuleStatisticsRequest, _context: Any
    ) -> pb.ReportRuleStatisticsResponse:
        check_fields(request)
        check_length(request, instance=_MAX_INSTANCE)
        _check_counts(request)
        added = {rule_id: _statistics_of(message) for rule_id, message in request.added.items()}
        problems = _problems_of(request)
        with as_tenant(tenant_served(current_caller())):
            return await self._add(request, added, problems)

    async def _add(
        self,
        request: pb.ReportRuleStatisticsRequest,
        added: Mapping[str, RuleStatistics],
        problems: Mapping[str, ReportedProblem],
    ) -> pb.ReportRuleStatisticsResponse:
        now = self._clock.now()

        async def act(transaction: Transaction) -> pb.ReportRuleStatisticsResponse:
            await transaction.rule_statistics.add(added)
            if request.instance:
                stored = await transaction.rule_problems.load_for_update(request.instance)
                await transaction.rule_problems.save(request.instance, apply_report(stored, problems, now), now)
            return pb.ReportRuleStatisticsResponse()

        return await act_once(self._store, request, pb.ReportRuleStatisticsResponse, act, now=now)


class CurrentProblems:
    """Says of rules which evaluators do not evaluate them now, and whether they had more groups than they may have."""

    def __init__(self, reader: RuleProblemReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def add_to(self, rules: Sequence[AlertRule]) -> None:
        """Add them; of a rule that was just disabled the evaluators may not know it yet."""
        enabled = {rule.id: rule for rule in rules if rule.enabled}
        current = await self._reader.list_current(list(enabled), self._clock.now() - REPORT_EXPIRY)
        for rule_id, problems in current.items():
            enabled[rule_id].problems.extend(map(problem_message, problems[:_MAX_PROBLEMS]))
        by_id = {rule.id: rule for rule in rules}
        for rule_id, events in (await self._reader.list_beyond_limit(list(by_id))).items():
            by_id[rule_id].beyond_limit_event_count = events


def _check_counts(request: pb.ReportRuleStatisticsRequest) -> None:
    if len(request.added) > MAX_RULES:
        refuse_if_any(Violation("added", f"has more than {MAX_RULES} rules"))
    counts = (
        count
        for message in request.added.values()
        for count in (
            message.matched_event_count,
            message.late_event_count,
            message.beyond_limit_event_count,
            message.fired_alert_count,
        )
    )
    if any(not 0 <= count <= _MAX_COUNT for count in counts):
        refuse_if_any(Violation("added", f"has a count that is not from 0 to {_MAX_COUNT}"))


def _problems_of(request: pb.ReportRuleStatisticsRequest) -> dict[str, ReportedProblem]:
    """Return the problems; those with a reason that this manager does not know are left out."""
    if len(request.problems) > MAX_RULES:
        refuse_if_any(Violation("problems", f"has more than {MAX_RULES} rules"))
    if any("\0" in rule_id or "\0" in problem.description for rule_id, problem in request.problems.items()):
        refuse_if_any(Violation("problems", "must not contain the character NUL"))
    try:
        return {
            rule_id: ReportedProblem(
                instance=request.instance,
                reason=ProblemReason(RuleProblemMessage.Reason.Name(problem.reason)),
                description=problem.description[:MAX_PROBLEM_CHARACTERS],
                set_aside_time=datetime_of(problem.set_aside_time),
                retry_time=datetime_of(problem.retry_time) if problem.HasField("retry_time") else None,
            )
            for rule_id, problem in request.problems.items()
            if problem.reason in _REASONS
        }
    except ValueError as error:
        refuse_if_any(Violation("problems", str(error)))
        raise


def _statistics_of(message: pb.RuleStatistics) -> RuleStatistics:
    try:
        evaluate_time = datetime_of(message.evaluate_time) if message.HasField("evaluate_time") else None
    except ValueError as error:
        refuse_if_any(Violation("added", str(error)))
        raise
    return RuleStatistics(
        matched=message.matched_event_count,
        late=message.late_event_count,
        beyond_limit=message.beyond_limit_event_count,
        fired=message.fired_alert_count,
        evaluate_time=evaluate_time,
    )


def _message_of(statistics: RuleStatistics) -> pb.RuleStatistics:
    return pb.RuleStatistics(
        matched_event_count=statistics.matched,
        late_event_count=statistics.late,
        beyond_limit_event_count=statistics.beyond_limit,
        fired_alert_count=statistics.fired,
        evaluate_time=timestamp_of(statistics.evaluate_time),
    )
