"""Health: one object that grpc.health.v1 and GET /health report; and the admin port with /health and /metrics.

/health is for everybody and has states only. /health/reasons, which Envoy does not pass on, says why.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from aiohttp import web

from services.chassis import telemetry
from services.chassis.peers import certificate_identity, service_identity
from services.chassis.settings import ProcessSettings, split_address
from services.chassis.tls import TlsFiles, server_context

log = structlog.get_logger()

_METRICS_READERS = frozenset(map(service_identity, ("prometheus", "gateway")))


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSnapshot:
    """A service's health at one moment."""

    service: str
    is_serving: bool
    dependencies: dict[str, str]
    # Why it does not serve, or not fully: by dependency, and under "service" while it starts or stops.
    reasons: dict[str, str]

    @property
    def status(self) -> str:
        """SERVING or NOT_SERVING, as in grpc.health.v1; DEGRADED where it serves, and something is DOWN."""
        if not self.is_serving:
            return "NOT_SERVING"
        return "DEGRADED" if "DOWN" in self.dependencies.values() else "SERVING"


class Dependency:
    """One user's view of something that the service needs; use it on the event loop only."""

    def __init__(self, name: str, *, required: bool, changed: Callable[[], None]) -> None:
        self.name = name
        self.required = required
        self.is_up = False
        self.reason = "not reached yet"
        self._was_reported = False
        self._changed = changed

    def up(self) -> None:
        """Record that it responds."""
        if not self.is_up:
            self.is_up, self.reason = True, ""
            log.info("dependency_recovered", dependency=self.name)
            self._changed()

    def down(self, reason: str) -> None:
        """Record that it does not respond; the reason goes into the log."""
        was_up, self.is_up, self.reason = self.is_up, False, reason
        if was_up or not self._was_reported:
            self._was_reported = True
            log.warning("dependency_lost", dependency=self.name, reason=reason)
            self._changed()


class Health:
    """SERVING exactly while the service is ready and everything it requires is up."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._dependencies: list[Dependency] = []
        self._subscribers: list[Callable[[], None]] = []
        self._is_ready = False
        self._not_ready_reason = "starting"
        self._failing: dict[str, str] = {}

    def dependency(self, name: str, *, required: bool = True) -> Dependency:
        """Register one user of a dependency; a name is UP when it is up for all of its users."""
        dependency = Dependency(name, required=required, changed=self._notify)
        self._dependencies.append(dependency)
        self._notify()
        return dependency

    def mark_failing(self, work: str, dependency: str) -> None:
        """Show `dependency` as DOWN while background work keeps failing; the service stays SERVING."""
        if self._failing.get(work) != dependency:
            self._failing[work] = dependency
            log.warning("work_failing", work=work, dependency=dependency)
            self._notify()

    def mark_working(self, work: str) -> None:
        """Record that background work succeeds again."""
        if self._failing.pop(work, None) is not None:
            log.info("work_recovered", work=work)
            self._notify()

    def mark_ready(self) -> None:
        """Record that the service has started."""
        self._is_ready = True
        self._notify()

    def mark_stopping(self) -> None:
        """Record that the service takes no more work."""
        self._is_ready, self._not_ready_reason = False, "stopping"
        self._notify()

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Call `subscriber` after each change."""
        self._subscribers.append(subscriber)

    def snapshot(self) -> HealthSnapshot:
        """Return the health at this moment."""
        states = {dependency.name: "UP" for dependency in self._dependencies}
        reasons = {} if self._is_ready else {"service": self._not_ready_reason}
        for dependency in self._dependencies:
            if not dependency.is_up:
                reasons.setdefault(dependency.name, dependency.reason)
        for work, name in self._failing.items():
            reasons.setdefault(name, f"{work} fails again and again")
        states |= dict.fromkeys(reasons.keys() - {"service"}, "DOWN")
        required_up = all(dependency.is_up for dependency in self._dependencies if dependency.required)
        is_serving = self._is_ready and required_up
        return HealthSnapshot(service=self.service, is_serving=is_serving, dependencies=states, reasons=reasons)

    def _notify(self) -> None:
        for subscriber in self._subscribers:
            subscriber()


@asynccontextmanager
async def admin_server(process: ProcessSettings, health: Health) -> AsyncIterator[int]:
    """Serve /metrics and /health until the end of the block; yield the port. With TLS, /metrics is for its readers."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", _get_metrics),
            web.get("/health", _get_health(health, has_reasons=False)),
            web.get("/health/reasons", _get_health(health, has_reasons=True)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, port = split_address(process.admin_listen)
        context = server_context(TlsFiles(process.tls)) if process.tls.is_on else None
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        if process.plaintext_admin_listen:
            log.warning("plaintext_accepted", listen=process.plaintext_admin_listen)
            await web.TCPSite(runner, *split_address(process.plaintext_admin_listen)).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _get_metrics(request: web.Request) -> web.Response:
    if request.secure and not _reads_metrics(request):
        raise web.HTTPForbidden(text="metrics are for the certificates of prometheus and gateway\n")
    body, content_type = telemetry.exposition()
    return web.Response(body=body, headers={"Content-Type": content_type})


def _reads_metrics(request: web.Request) -> bool:
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    return certificate_identity(certificate) in _METRICS_READERS


def _get_health(health: Health, *, has_reasons: bool) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def get_health(request: web.Request) -> web.Response:
        if has_reasons and request.secure and not _reads_metrics(request):
            raise web.HTTPForbidden(text="reasons are for the certificates of prometheus and gateway\n")
        snapshot = health.snapshot()
        status = HTTPStatus.OK if snapshot.is_serving else HTTPStatus.SERVICE_UNAVAILABLE
        body = {"service": snapshot.service, "status": snapshot.status, "dependencies": snapshot.dependencies}
        if has_reasons:
            body["reasons"] = snapshot.reasons
        return web.json_response(body, status=status)

    return get_health
