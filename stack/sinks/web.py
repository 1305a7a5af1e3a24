"""The sinks that are reached by HTTP, and the doors through which tests look at all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from stack.sinks.journal import Behaviour, Delivery, Journal
from stack.sinks.judges import BAD, Judge, Posted, pagerduty, slack, webhook

SLACK_PATH = "/slack/services/T0TOCSIN0/B0TOCSIN0/tocsinMadeUpSlackToken00"
_MULTIPLE = 300

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(journal: Journal) -> web.Application:
    """The three HTTP sinks and the doors."""
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_post("/slack/{rest:.*}", _sink(journal, slack, SLACK_PATH))
    app.router.add_post("/pagerduty/v2/enqueue", _sink(journal, pagerduty))
    app.router.add_post("/webhook", _sink(journal, webhook))
    app.router.add_get("/health", _health)
    app.router.add_get("/deliveries", _listing(journal))
    app.router.add_delete("/deliveries", _clearing(journal))
    app.router.add_put("/behaviour/{channel}", _ordering(journal))
    app.router.add_delete("/behaviour/{channel}", _ordering(journal))
    return app


def _sink(journal: Journal, judge: Judge, path: str | None = None) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if path is not None and request.path != path:
            return web.Response(status=404, text="no_service")
        headers = {name.lower(): value for name, value in request.headers.items()}
        delivery = judge(Posted(raw=await request.read(), headers=headers))
        order = journal.order(delivery.channel)
        if order.status is not None:
            delivery = replace(delivery, status=order.status, is_accepted=order.status < _MULTIPLE)
        await journal.add(replace(delivery, headers=headers))
        if order.delay:
            await asyncio.sleep(order.delay)
        return _answer(delivery, order)

    return handle


def _answer(delivery: Delivery, order: Behaviour) -> web.Response:
    headers = {"Retry-After": order.retry_after} if order.retry_after is not None else {}
    if delivery.channel == "pagerduty":
        if delivery.is_accepted:
            told: dict[str, object] = {"status": "success", "message": "Event processed", "dedup_key": delivery.key}
        else:
            told = {"status": "invalid event", "message": "Event object is invalid", "errors": delivery.problems}
        return web.json_response(told, status=delivery.status, headers=headers)
    text = "ok" if delivery.is_accepted else "invalid_payload" if delivery.status == BAD else "error"
    return web.Response(status=delivery.status, text=text, headers=headers)


def _listing(journal: Journal) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        channel = request.query.get("channel")
        found = [one for one in journal.deliveries if channel in {None, one.channel}]
        if request.query.get("accepted") == "true":
            found = [one for one in found if one.is_accepted]
        return web.json_response({"deliveries": [one.as_json() for one in found]})

    return handle


def _clearing(journal: Journal) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        journal.clear()
        return web.json_response({})

    return handle


def _ordering(journal: Journal) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            wanted = Behaviour(**await request.json()) if request.method == "PUT" else None
            journal.behave(request.match_info["channel"], wanted)
        except (TypeError, ValueError) as problem:
            return web.json_response({"error": str(problem)}, status=BAD)
        return web.json_response({})

    return handle


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "SERVING"})
