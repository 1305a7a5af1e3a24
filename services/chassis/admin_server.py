"""The admin port, with /health and /metrics.

/health is for everybody and has states only. /health/reasons, which Envoy does not pass on, says why.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

import structlog

from services.chassis import telemetry
from services.chassis.health import Health, observe_dependencies
from services.chassis.http_server import Handler, HttpResponse, http_server
from services.chassis.peers import certificate_identity, service_identity
from services.chassis.settings import ProcessSettings, split_address
from services.chassis.tls import TlsFiles, server_context

log = structlog.get_logger()

_METRICS_READERS = frozenset(map(service_identity, ("prometheus", "gateway")))


@asynccontextmanager
async def admin_server(process: ProcessSettings, health: Health) -> AsyncIterator[int]:
    """Serve /metrics and /health until the end of the block; yield the port. With TLS, /metrics is for its readers."""
    observe_dependencies(health)
    handlers: dict[str, Handler] = {
        "/metrics": _metrics,
        "/health": lambda _: _health(health, has_reasons=False),
        "/health/reasons": lambda transport: _reasons(transport, health),
    }
    context = server_context(TlsFiles(process.tls)) if process.tls.is_on else None
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(http_server(handlers, *split_address(process.admin_listen), context))
        if process.plaintext_admin_listen:
            log.warning("plaintext_accepted", listen=process.plaintext_admin_listen)
            await stack.enter_async_context(http_server(handlers, *split_address(process.plaintext_admin_listen)))
        yield port


def _metrics(transport: asyncio.BaseTransport) -> HttpResponse:
    if not _may_read(transport):
        return _forbidden("metrics")
    body, content_type = telemetry.exposition()
    return HttpResponse(content_type=content_type, body=body)


def _reasons(transport: asyncio.BaseTransport, health: Health) -> HttpResponse:
    return _health(health, has_reasons=True) if _may_read(transport) else _forbidden("reasons")


def _may_read(transport: asyncio.BaseTransport) -> bool:
    if transport.get_extra_info("sslcontext") is None:
        return True
    return certificate_identity(transport.get_extra_info("peercert")) in _METRICS_READERS


def _forbidden(what: str) -> HttpResponse:
    text = f"{what} are for the certificates of prometheus and gateway\n"
    return HttpResponse(status=HTTPStatus.FORBIDDEN, body=text.encode())


def _health(health: Health, *, has_reasons: bool) -> HttpResponse:
    snapshot = health.snapshot()
    content = {"service": snapshot.service, "status": snapshot.status, "dependencies": snapshot.dependencies}
    return HttpResponse(
        status=HTTPStatus.OK if snapshot.is_serving else HTTPStatus.SERVICE_UNAVAILABLE,
        content_type="application/json; charset=utf-8",
        body=json.dumps(content | ({"reasons": snapshot.reasons} if has_reasons else {})).encode(),
    )
