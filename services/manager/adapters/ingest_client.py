"""The client of ingest, to which the manager sends its canaries as any client sends an event."""

import grpc

from services.chassis.failures import Failure
from services.contract.timestamps import timestamp_of
from services.domain.canary import CANARY_SERVICE
from services.manager.core.canary import CANARY_ATTRIBUTE, Canary
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.logs.v1.log_ingest_service_pb2 import IngestRequest
from tocsin.logs.v1.log_ingest_service_pb2_grpc import LogIngestServiceStub

_TIMEOUT_S = 5.0


class CanaryRefused(Failure):
    """Ingest does not take the canary."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "CANARY_REFUSED"


class IngestClient:
    """Sends canaries through the mesh."""

    def __init__(self, mesh: grpc.aio.Channel) -> None:
        self._stub = LogIngestServiceStub(mesh)

    async def send(self, canary: Canary) -> None:
        event = LogEvent(
            service=CANARY_SERVICE,
            level=LogEvent.INFO,
            message="the manager measures how long alerts take",
            event_time=timestamp_of(canary.time),
            attributes={CANARY_ATTRIBUTE: canary.id},
        )
        try:
            await self._stub.Ingest(IngestRequest(event=event), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise CanaryRefused(f"ingest answers {error.code().name}") from error
