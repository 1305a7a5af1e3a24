"""The admin port: GET /metrics for Prometheus, GET /health for people and Envoy."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from services.chassis import telemetry
from services.chassis.address import split_address
from services.chassis.health import Health


@asynccontextmanager
async def admin_server(listen: str, health: Health) -> AsyncIterator[int]:
    """Serve /metrics and /health on `listen` until the end of the block; gives the port."""
    app = web.Application()
    app.add_routes([web.get("/metrics", _metrics), web.get("/health", _answer_from(health))])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, port = split_address(listen)
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _metrics(_: web.Request) -> web.Response:
    body, content_type = telemetry.exposition()
    return web.Response(body=body, headers={"Content-Type": content_type})


def _answer_from(health: Health) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        now = health.snapshot()
        status = HTTPStatus.OK if now.is_serving else HTTPStatus.SERVICE_UNAVAILABLE
        body = {"service": now.service, "status": now.status, "dependencies": now.dependencies}
        return web.json_response(body, status=status)

    return answer
