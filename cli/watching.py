"""Watch alerts or incidents over connections that break.

A watch sends all that is open when it begins, so after a break only what has changed is given again. What was resolved
meanwhile is not among it: each that was open before the break is read once more.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

import grpc

from cli.client import RPC_TIMEOUT_S, retry_delay_of, words_of_call_error
from services.chassis.backoff import Backoff
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.alerts.v1.alert_service_pb2 import GetAlertRequest, WatchAlertsRequest
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.incidents.v1.incident_pb2 import Incident
from tocsin.incidents.v1.incident_service_pb2 import GetIncidentRequest, WatchIncidentsRequest
from tocsin.incidents.v1.incident_service_pb2_grpc import IncidentServiceStub

_Watched = TypeVar("_Watched", Alert, Incident)

_BACKOFF = Backoff(first_delay=timedelta(seconds=1), max_delay=timedelta(seconds=30))
# What refuses a stream at once ends it within this time.
_REFUSAL_S = 0.1
# How a stream ends whose server stops, restarts, or cuts off a watcher that was too slow.
_RECONNECTED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


@dataclass(slots=True, kw_only=True)
class ChangeWatch(ABC, Generic[_Watched]):
    """Gives what is watched as it changes; `notice` takes what is to be said about the connection."""

    notice: Callable[[str], None]
    backoff: Backoff = _BACKOFF
    _etags: dict[str, str] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)
    _was_connected: bool = field(default=False, init=False)

    @abstractmethod
    def _open(self) -> Any:
        """Call the rpc that watches."""

    @abstractmethod
    def _read(self, item_id: str) -> _Watched:
        """Read one that was given before. Raises grpc.RpcError."""

    @abstractmethod
    def _watched_of(self, response: Any) -> _Watched:
        """Return what a response of the stream is about."""

    @abstractmethod
    def _is_resolved(self, item: _Watched) -> bool:
        """Return whether it changes no more, or is sent no more unless it does."""

    def changes(self) -> Iterator[_Watched]:
        """Yield what changes until the server ends the stream in good order.

        Raises grpc.RpcError when the first connection fails, or the server refuses the request.
        """
        while True:
            try:
                yield from self._stream()
            except grpc.RpcError as error:
                if not self._was_connected or error.code() not in _RECONNECTED:
                    raise
                self.pause(self._report(error))
            else:
                return

    def _stream(self) -> Iterator[_Watched]:
        call = self._open()
        ended = threading.Event()
        if not call.add_callback(ended.set):
            ended.set()
        # The server sends it at once, before there is anything; a refusal has it as well, and the end just behind it.
        call.initial_metadata()
        if not ended.wait(_REFUSAL_S):
            yield from self._connected()
        for response in call:
            yield from self._connected()
            yield from self._new([self._watched_of(response)])

    def _connected(self) -> Iterator[_Watched]:
        """Note that the server answers; yield what was missed, after a break."""
        was_broken, self._was_connected, self._failures = self._failures > 0, True, 0
        if was_broken:
            self.notice("connected again")
            yield from self._new(self._ended_meanwhile())

    def pause(self, delay: float) -> None:
        """Wait so many seconds."""
        time.sleep(delay)

    def _report(self, error: grpc.RpcError) -> float:
        """Say why the connection broke; return the seconds until the next one."""
        delay: float = max(self.backoff.delay(self._failures).total_seconds(), retry_delay_of(error) or 0.0)
        self._failures += 1
        self.notice(f"{error.code().name}: {words_of_call_error(error)}; connecting again in {delay:.1f} s")
        return delay

    def _ended_meanwhile(self) -> Iterator[_Watched]:
        for item_id in list(self._etags):
            try:
                yield self._read(item_id)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                del self._etags[item_id]

    def _new(self, items: Iterable[_Watched]) -> Iterator[_Watched]:
        """Yield what was not given in this version; remember the versions of what is open."""
        for item in items:
            if self._etags.get(item.id) == item.etag and item.etag:
                continue
            if self._is_resolved(item):
                self._etags.pop(item.id, None)
            else:
                self._etags[item.id] = item.etag
            yield item


@dataclass(slots=True, kw_only=True)
class AlertWatch(ChangeWatch[Alert]):
    """Gives alerts as they change."""

    stub: AlertServiceStub
    request: WatchAlertsRequest

    def _open(self) -> Any:
        return self.stub.WatchAlerts(self.request)

    def _read(self, item_id: str) -> Alert:
        return self.stub.GetAlert(GetAlertRequest(id=item_id), timeout=RPC_TIMEOUT_S).alert

    def _watched_of(self, response: Any) -> Alert:
        alert: Alert = response.alert
        return alert

    def _is_resolved(self, item: Alert) -> bool:
        return item.state == Alert.RESOLVED


@dataclass(slots=True, kw_only=True)
class IncidentWatch(ChangeWatch[Incident]):
    """Gives incidents as they change."""

    stub: IncidentServiceStub
    request: WatchIncidentsRequest

    def _open(self) -> Any:
        return self.stub.WatchIncidents(self.request)

    def _read(self, item_id: str) -> Incident:
        return self.stub.GetIncident(GetIncidentRequest(id=item_id), timeout=RPC_TIMEOUT_S).incident

    def _watched_of(self, response: Any) -> Incident:
        incident: Incident = response.incident
        return incident

    def _is_resolved(self, item: Incident) -> bool:
        return item.state == Incident.RESOLVED
