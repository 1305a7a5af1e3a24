"""Report sampled traces to the manager, which learns dependencies from them."""

from collections.abc import Sequence

import grpc

from services.chassis.failures import Failure
from services.contract.timestamps import timestamp_of_nanoseconds
from services.domain.tenants import write_tenant
from services.evaluator.core.match.traces import TraceMember
from tocsin.catalog.v1.learned_edge_service_pb2 import ReportTracesRequest, TraceSighting
from tocsin.catalog.v1.learned_edge_service_pb2_grpc import LearnedEdgeServiceStub

_TIMEOUT_SECONDS = 2.0


class TraceReportsUnavailable(Failure):
    """The manager does not take reports of traces."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "TRACE_REPORTS_UNAVAILABLE"


class TraceReportClient:
    """Sends reports to the manager. One that does not arrive is lost: traces are a sample anyway."""

    def __init__(self, mesh: grpc.aio.Channel) -> None:
        self._stub = LearnedEdgeServiceStub(mesh)

    async def send(self, members: Sequence[TraceMember]) -> None:
        """Send one report, if there is anything to report. Raises a transient Failure."""
        if not members:
            return
        sightings = (
            TraceSighting(
                trace_id=member.trace_id,
                service=member.service,
                first_time=timestamp_of_nanoseconds(member.first_ns),
                tenant=write_tenant(member.tenant),
            )
            for member in members
        )
        try:
            await self._stub.ReportTraces(ReportTracesRequest(sightings=sightings), timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise TraceReportsUnavailable("the manager does not take reports of traces") from error
