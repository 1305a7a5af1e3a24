"""The running evaluator: events in, transitions out."""

import pytest

from services.evaluator.core.records import partition_of
from tests.fakes.rule_manager import a_rule
from tests.integration.evaluator.conftest import PARTITIONS, World, until
from tocsin.logs.v1.log_event_pb2 import LogEvent

pytestmark = pytest.mark.integration

EXPECTED = {("rule-errors", "payment-service"): 1, ("rule-latency", "search"): 1, ("rule-rate", "api-service"): 1}


def scenario_events() -> list[LogEvent]:
    """120 errors of one service, 60 slow responses of another, 30 failed ones of a third."""
    errors = [LogEvent(service="payment-service", level=LogEvent.ERROR, message=f"refused {i}") for i in range(120)]
    slow = [
        LogEvent(service="search", level=LogEvent.INFO, message="slow", response_time=2500.0 + i) for i in range(60)
    ]
    failed = [LogEvent(service="api-service", level=LogEvent.WARN, message="503", status_code=503) for i in range(30)]
    mixed = [event for three in zip(errors[:30], slow[:30], failed, strict=True) for event in three]
    return mixed + errors[30:] + slow[30:]


def send_scenario(world: World, size: int = 15) -> None:
    events = scenario_events()
    for number, start in enumerate(range(0, len(events), size)):
        world.send(events[start : start + size], number % PARTITIONS)


async def test_three_problems_give_three_alerts(world: World) -> None:
    evaluator = await world.evaluator()
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "all three have fired")
    assert world.fired() == EXPECTED
    errors = next(each for each in world.transitions() if each.rule_id == "rule-errors")
    assert errors.window.count > 100
    assert len(errors.samples) == 3
    assert errors.group == {"service": "payment-service"}
    assert {each["store"] for each in evaluator.events("windows_restored")} >= {"error-count", "latency", "error-rate"}
    assert await evaluator.terminate() == 0
    assert not world.resolved()


async def test_groups_beyond_the_limit_fire_together_and_open_alerts_stay(world: World) -> None:
    await world.manager.set(a_rule(threshold=2.0))
    evaluator = await world.evaluator(EVALUATOR_MAX_GROUPS="5")
    # All in one window.
    now = LogEvent(level=LogEvent.ERROR, message="refused")
    now.event_time.GetCurrentTime()

    def errors(*services: str) -> list[LogEvent]:
        made = [LogEvent(service=service) for service in services]
        for event in made:
            event.MergeFrom(now)
        return made

    world.send(errors("first", "first", "first"), 0)
    await until(lambda: len(world.fired()) == 1, "one service has fired")
    homes = [partition_of("rule-errors", (f"service-{number}",), PARTITIONS) for number in range(50)]
    world.send(errors(*(f"service-{number}" for number in range(50))), 1)
    await until(lambda: len(world.fired()) == 1 + PARTITIONS, "what is beyond the limit has fired in each partition")
    # Each partition has room for one group.
    taken = partition_of("rule-errors", ("first",), PARTITIONS)
    assert {each.resource: each.window.count for each in world.transitions()} == {
        "first": 3,
        **{f"~other/{output}": homes.count(output) - (output != taken) for output in range(PARTITIONS)},
    }
    assert not world.resolved()
    assert len(evaluator.events("group_limit_reached")) == PARTITIONS


async def test_a_host_whose_clock_is_ahead_makes_no_other_late(world: World) -> None:
    await world.evaluator()
    for partition in range(PARTITIONS):
        world.send([LogEvent(service="any", level=LogEvent.INFO, message="ahead")], partition, ahead=540)
    await until(lambda: len(world.sources_flushed()) == PARTITIONS, "its events are counted")
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "the others' alerts have fired")


async def test_a_trace_goes_on_through_both_stages(world: World) -> None:
    await world.evaluator()
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    plain = LogEvent(service="payment-service", level=LogEvent.ERROR, message="refused")
    own = LogEvent(trace_id="ab" * 16, attributes={"user.tier": "silver"})
    own.MergeFrom(plain)
    events = [own, *[plain for _ in range(100)]]
    world.send(events, 0, headers=[("traceparent", trace)])
    await until(lambda: bool(world.fired()), "it has fired")
    (headers,) = world.alert_headers()
    assert headers["traceparent"].split(b"-")[1] == trace.split(b"-")[1]
    (transition,) = world.transitions()
    assert {(sample.trace_id, sample.attributes.get("user.tier")) for sample in transition.samples} == {
        ("ab" * 16, "silver"),
        ("", None),
    }


async def test_an_unreadable_record_is_dead_lettered_and_the_stream_goes_on(world: World) -> None:
    await world.evaluator()
    world.send_bytes(b"\xff\xff\xff", 1)
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "all three have fired")
    (letter,) = world.dead_letters()
    assert (letter.topic, letter.partition, letter.offset, letter.reason) == ("log-events", 1, 0, "UNDECODABLE")
    assert letter.value == b"\xff\xff\xff"


async def test_a_rule_that_is_deleted_resolves_its_alerts(world: World) -> None:
    await world.evaluator()
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "all three have fired")
    await world.manager.set(a_rule())
    await until(lambda: len(world.resolved()) == 2, "the two that are gone are resolved")
    assert set(world.resolved()) == {("rule-latency", "search"), ("rule-rate", "api-service")}


async def test_a_new_rule_counts_from_then_on(world: World) -> None:
    await world.evaluator()
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "all three have fired")
    chatty = a_rule(
        id="rule-warn", name="Warnings", filter="level == WARN", threshold=2.0, revision=7, selection_revision=7
    )
    await world.manager.set(a_rule(), chatty)
    await until(lambda: len(world.resolved()) == 2, "the rules were learned")
    world.send([LogEvent(service="web", level=LogEvent.WARN, message="hm") for _ in range(3)], 2)
    await until(lambda: ("rule-warn", "web") in world.fired(), "the new rule has fired")


async def test_without_a_manager_it_starts_with_the_copy(world: World) -> None:
    first = await world.evaluator()
    await until(lambda: bool(first.events("windows_restored")), "it runs")
    assert await first.terminate() == 0
    await world.manager.stop()
    second = await world.evaluator()
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "all three have fired")
    assert any(each["source"] == "cache" for each in second.events("rules_loaded"))


async def test_it_follows_a_manager_that_was_away(world: World) -> None:
    evaluator = await world.evaluator()
    await until(lambda: bool(evaluator.events("windows_restored")), "it runs")
    await world.manager.stop()
    send_scenario(world)
    await until(lambda: len(world.fired()) == len(EXPECTED), "it goes on with the rules that it has")
    await world.manager.start()
    await world.manager.set(a_rule())
    await until(lambda: len(world.resolved()) == 2, "the two that are gone are resolved")
