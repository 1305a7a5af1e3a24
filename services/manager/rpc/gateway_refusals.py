"""Take Envoy's reports of the calls that it has refused itself, and keep them for the audit log.

Envoy sends its access log's entries in batches, as OpenTelemetry's LogsService. Whoever floods Envoy with calls that it
refuses must not keep the manager busy: so many entries a second are read, the others are counted only.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as pb
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from services.access.gateway_refusals import refusal_at_gateway
from services.chassis.clock import Clock
from services.chassis.grpc_server import Mount
from services.domain.audit_record import AuditRecord, without_names

# About twenty milliseconds of a second.
MAX_READ_A_SECOND = 1_000
# Envoy's clock counts where it is right to the minute, and this machine's where it is not.
_MAX_SKEW = timedelta(minutes=1)


class GatewayRefusalRpc(LogsServiceServicer):
    """Serves LogsService to Envoy; `refuse` keeps entries, and folds those that repeat each other."""

    def __init__(
        self,
        refuse: Callable[[Sequence[AuditRecord]], None],
        clock: Clock,
        new_id: Callable[[], str],
        find_rpc: Callable[[str, str], str],
    ) -> None:
        self._refuse = refuse
        self._clock = clock
        self._new_id = new_id
        self._find_rpc = find_rpc
        self._second, self._read = 0, 0

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["LogsService"].full_name,
            lambda server: add_LogsServiceServicer_to_server(self, server),  # type: ignore[no-untyped-call]  # theirs
        )

    async def Export(  # noqa: N802  (named by OpenTelemetry)
        self, request: pb.ExportLogsServiceRequest, _context: Any
    ) -> pb.ExportLogsServiceResponse:
        now = self._clock.now()
        reported = [
            entry for resource in request.resource_logs for scope in resource.scope_logs for entry in scope.log_records
        ]
        room = self._room(now)
        self._read += len(reported[:room])
        records = [self._record(entry, now) for entry in islice(reported, room)]
        if rest := reported[room:]:
            records.append(without_names(self._record(rest[0], now), count=len(rest)))
        self._refuse(records)
        return pb.ExportLogsServiceResponse()

    def _room(self, now: datetime) -> int:
        """Return how many entries may still be read in this second."""
        second = int(now.timestamp())
        if second != self._second:
            self._second, self._read = second, 0
        return MAX_READ_A_SECOND - self._read

    def _record(self, entry: LogRecord, now: datetime) -> AuditRecord:
        return refusal_at_gateway(
            {attribute.key: attribute.value.string_value for attribute in entry.attributes},
            at=_time_of(entry, now),
            record_id=self._new_id(),
            find_rpc=self._find_rpc,
        )


def _time_of(entry: LogRecord, now: datetime) -> datetime:
    """Return when the call came, by Envoy's clock where it agrees with ours."""
    age = timedelta(microseconds=int(now.timestamp() * 1_000_000) - entry.time_unix_nano // 1_000)
    return now - age if timedelta() <= age <= _MAX_SKEW else now
