"""The journal of the local sinks."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from stack.sinks import journal as journal_module
from stack.sinks.http_sinks import sink_application
from stack.sinks.journal import Journal, SinkDelivery, utc_now


def delivery(alert: str, *, is_accepted: bool = True) -> SinkDelivery:
    return SinkDelivery(
        channel="webhook", status=200, is_accepted=is_accepted, key=alert, alert=alert, kind="FIRING", time=utc_now()
    )


async def test_whoever_looks_again_reads_only_what_has_come_since() -> None:
    journal = Journal()
    async with TestClient(TestServer(sink_application(journal))) as client:
        for alert in ("a", "b"):
            await journal.add(delivery(alert))
        first = await (await client.get("/deliveries")).json()
        assert [each["alert"] for each in first["deliveries"]] == ["a", "b"]
        await journal.add(delivery("c", is_accepted=False))
        await journal.add(delivery("d"))
        then = await (await client.get(f"/deliveries?accepted=true&first={first['next']}")).json()
        assert ([each["alert"] for each in then["deliveries"]], then["next"]) == (["d"], 4)
        refused = await client.get("/deliveries?first=x")
        assert (refused.status, "first" in await refused.text()) == (400, True)


async def test_numbers_go_on_where_the_oldest_deliveries_are_dropped_or_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "_MAX_DELIVERIES", 2)
    journal = Journal()
    for alert in ("a", "b", "c"):
        await journal.add(delivery(alert))
    assert [each.alert for each in journal.since(0)] == ["b", "c"]
    assert [each.alert for each in journal.since(2)] == ["c"]
    journal.clear()
    await journal.add(delivery("d"))
    assert [each.alert for each in journal.since(3)] == ["d"]
