"""The sinks that are reached by HTTP, and the endpoints with which tests observe and control all sinks."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from stack.sinks.journal import Behaviour, Journal, SinkDelivery
from stack.sinks.vendor_checks import BAD_REQUEST, SinkRequest, VendorCheck, check_pagerduty, check_slack, check_webhook

# Slack's own form: a workspace, a webhook, and the secret that stands for one channel.
_SLACK_PATH = re.compile(r"/slack/services/T\w+/B\w+/[\w-]+")
_MULTIPLE = 300

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def sink_application(journal: Journal) -> web.Application:
    """Return the three HTTP sinks and the endpoints for tests."""
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_post("/slack/{rest:.*}", _sink(journal, check_slack, _SLACK_PATH))
    app.router.add_post("/pagerduty/v2/enqueue", _sink(journal, check_pagerduty))
    app.router.add_post("/webhook", _sink(journal, check_webhook))
    app.router.add_get("/health", _health)
    app.router.add_get("/deliveries", _list_deliveries(journal))
    app.router.add_delete("/deliveries", _clear_deliveries(journal))
    app.router.add_put("/behaviour/{channel}", _set_behaviour(journal))
    app.router.add_delete("/behaviour/{channel}", _set_behaviour(journal))
    return app


def _sink(journal: Journal, check: VendorCheck, path: re.Pattern[str] | None = None) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        if path is not None and path.fullmatch(request.path) is None:
            return web.Response(status=404, text="no_service")
        headers = {name.lower(): value for name, value in request.headers.items()}
        delivery = check(SinkRequest(raw=await request.read(), headers=headers))
        behaviour = journal.next_behaviour(delivery.channel)
        if behaviour.status is not None:
            delivery = replace(delivery, status=behaviour.status, is_accepted=behaviour.status < _MULTIPLE)
        await journal.add(replace(delivery, path=request.path, headers=headers))
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        return _response(delivery, behaviour)

    return handle


def _response(delivery: SinkDelivery, behaviour: Behaviour) -> web.Response:
    headers = {"Retry-After": behaviour.retry_after} if behaviour.retry_after is not None else {}
    if delivery.channel == "pagerduty":
        if delivery.is_accepted:
            body: dict[str, object] = {"status": "success", "message": "Event processed", "dedup_key": delivery.key}
        else:
            body = {"status": "invalid event", "message": "Event object is invalid", "errors": delivery.problems}
        return web.json_response(body, status=delivery.status, headers=headers)
    text = "ok" if delivery.is_accepted else "invalid_payload" if delivery.status == BAD_REQUEST else "error"
    return web.Response(status=delivery.status, text=text, headers=headers)


def _list_deliveries(journal: Journal) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        channel = request.query.get("channel")
        try:
            first = int(request.query.get("first", "0"))
        except ValueError as problem:
            return web.json_response({"error": f"first: {problem}"}, status=BAD_REQUEST)
        deliveries = [one for one in journal.since(first) if channel in {None, one.channel}]
        if request.query.get("accepted") == "true":
            deliveries = [one for one in deliveries if one.is_accepted]
        return web.json_response({"deliveries": [one.as_json() for one in deliveries], "next": journal.count})

    return handle


def _clear_deliveries(journal: Journal) -> _Handler:
    async def handle(_: web.Request) -> web.Response:
        journal.clear()
        return web.json_response({})

    return handle


def _set_behaviour(journal: Journal) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            wanted = Behaviour(**await request.json()) if request.method == "PUT" else None
            journal.behave(request.match_info["channel"], wanted)
        except (TypeError, ValueError) as problem:
            return web.json_response({"error": str(problem)}, status=BAD_REQUEST)
        return web.json_response({})

    return handle


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "SERVING"})
