"""Watch alerts over connections that break.

A watch sends all open alerts when it begins, so after a break only those that have changed are given again. An
alert that was resolved meanwhile is not among them: each alert that was open before the break is read once more.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import grpc

from cli.client import RPC_TIMEOUT_S, retry_delay_of
from services.chassis.backoff import Backoff
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.alerts.v1.alert_service_pb2 import GetAlertRequest, WatchAlertsRequest
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub

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
class AlertWatch:
    """Gives alerts as they change; `notice` takes what is to be said about the connection."""

    stub: AlertServiceStub
    request: WatchAlertsRequest
    notice: Callable[[str], None]
    backoff: Backoff = _BACKOFF
    _etags: dict[str, str] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)
    _was_connected: bool = field(default=False, init=False)

    def changes(self) -> Iterator[Alert]:
        """Yield alerts until the server ends the stream in good order.

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

    def _stream(self) -> Iterator[Alert]:
        call = self.stub.WatchAlerts(self.request)
        ended = threading.Event()
        if not call.add_callback(ended.set):
            ended.set()
        # The server sends it at once, before there is any alert; a refusal has it as well, and the end just behind it.
        call.initial_metadata()
        if not ended.wait(_REFUSAL_S):
            yield from self._connected()
        for response in call:
            yield from self._connected()
            yield from self._new([response.alert])

    def _connected(self) -> Iterator[Alert]:
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
        self.notice(f"{error.code().name}: {error.details()}; connecting again in {delay:.1f} s")
        return delay

    def _ended_meanwhile(self) -> Iterator[Alert]:
        for alert_id in list(self._etags):
            try:
                yield self.stub.GetAlert(GetAlertRequest(id=alert_id), timeout=RPC_TIMEOUT_S).alert
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                del self._etags[alert_id]

    def _new(self, alerts: Iterable[Alert]) -> Iterator[Alert]:
        """Yield what was not given in this version; remember the versions of open alerts."""
        for alert in alerts:
            if self._etags.get(alert.id) == alert.etag and alert.etag:
                continue
            if alert.state == Alert.RESOLVED:
                self._etags.pop(alert.id, None)
            else:
                self._etags[alert.id] = alert.etag
            yield alert
