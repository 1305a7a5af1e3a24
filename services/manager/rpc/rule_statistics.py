"""RuleStatisticsService: what the evaluators have counted of each rule."""

from typing import Any

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.chassis.request_ids import respond_once
from services.contract.timestamps import datetime_of, timestamp_of
from services.manager.core.rule import MAX_RULES, RuleStatistics
from services.manager.ports import RuleStatisticsReader, Store
from services.manager.rpc.failures import RuleNotFound
from services.manager.rpc.requests import check_fields, refuse_if_any
from tocsin.rules.v1 import rule_statistics_service_pb2 as pb
from tocsin.rules.v1.rule_statistics_service_pb2_grpc import (
    RuleStatisticsServiceServicer,
    add_RuleStatisticsServiceServicer_to_server,
)

# No evaluator counts as many in ten seconds; sums of so many fit into the store.
_MAX_COUNT = 2**40


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class RuleStatisticsRpc(RuleStatisticsServiceServicer):
    """Serves and adds up statistics."""

    def __init__(self, store: Store, reader: RuleStatisticsReader, clock: Clock) -> None:
        self._store = store
        self._reader = reader
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
        return pb.GetRuleStatisticsResponse(statistics=_message_of(statistics))

    async def ReportRuleStatistics(
        self, request: pb.ReportRuleStatisticsRequest, _context: Any
    ) -> pb.ReportRuleStatisticsResponse:
        check_fields(request)
        _check_counts(request)
        added = {rule_id: _statistics_of(message) for rule_id, message in request.added.items()}
        async with self._store.transaction() as transaction:

            async def act() -> pb.ReportRuleStatisticsResponse:
                await transaction.rule_statistics.add(added)
                return pb.ReportRuleStatisticsResponse()

            return await respond_once(
                request, transaction.requests, pb.ReportRuleStatisticsResponse, act, now=self._clock.now()
            )


def _check_counts(request: pb.ReportRuleStatisticsRequest) -> None:
    if len(request.added) > MAX_RULES:
        refuse_if_any(Violation("added", f"has more than {MAX_RULES} rules"))
    counts = (
        count
        for message in request.added.values()
        for count in (message.matched_event_count, message.late_event_count, message.fired_alert_count)
    )
    if any(not 0 <= count <= _MAX_COUNT for count in counts):
        refuse_if_any(Violation("added", f"has a count that is not from 0 to {_MAX_COUNT}"))


def _statistics_of(message: pb.RuleStatistics) -> RuleStatistics:
    try:
        evaluate_time = datetime_of(message.evaluate_time) if message.HasField("evaluate_time") else None
    except ValueError as error:
        refuse_if_any(Violation("added", str(error)))
        raise
    return RuleStatistics(
        matched=message.matched_event_count,
        late=message.late_event_count,
        fired=message.fired_alert_count,
        evaluate_time=evaluate_time,
    )


def _message_of(statistics: RuleStatistics) -> pb.RuleStatistics:
    return pb.RuleStatistics(
        matched_event_count=statistics.matched,
        late_event_count=statistics.late,
        fired_alert_count=statistics.fired,
        evaluate_time=timestamp_of(statistics.evaluate_time),
    )
