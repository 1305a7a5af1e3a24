"""Alert rules through the API."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.integration.manager.conftest import Run, World, again, transition, until
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration

DEFAULTS = ["Failed responses", "High error count", "Slow responses"]


def rule(**changed: Any) -> AlertRule:
    fields = {
        "name": "High Error Rate",
        "type": "ERROR_THRESHOLD",
        "condition": "count > threshold",
        "threshold": 100,
        "window_minutes": 5,
        "severity": "CRITICAL",
        "enabled": True,
    }
    return AlertRule(**{**fields, **changed})


async def created(world: World, **changed: Any) -> AlertRule:
    response: pb.CreateAlertRuleResponse = await world.rules.CreateAlertRule(
        pb.CreateAlertRuleRequest(alert_rule=rule(**changed))
    )
    return response.alert_rule


async def updated(world: World, stored: AlertRule, *paths: str, etag: str = "", **changed: Any) -> AlertRule:
    request = pb.UpdateAlertRuleRequest(
        id=stored.id, alert_rule=AlertRule(etag=etag, **changed), update_mask=FieldMask(paths=paths)
    )
    response: pb.UpdateAlertRuleResponse = await world.rules.UpdateAlertRule(request)
    return response.alert_rule


async def got(world: World, rule_id: str) -> AlertRule:
    response: pb.GetAlertRuleResponse = await world.rules.GetAlertRule(pb.GetAlertRuleRequest(id=rule_id))
    return response.alert_rule


async def names(world: World, **asked: Any) -> list[str]:
    answer = await world.rules.ListAlertRules(pb.ListAlertRulesRequest(**asked))
    return [each.name for each in answer.alert_rules]


async def test_a_new_system_has_three_rules_and_deleted_ones_do_not_come_back(settings: Any, running: Run) -> None:
    async with running(settings) as world:
        assert await names(world) == DEFAULTS
        answer = await world.rules.ListAlertRules(pb.ListAlertRulesRequest())
        found = {each.name: each for each in answer.alert_rules}
        assert [(found[n].threshold, found[n].window_minutes, list(found[n].group_by)) for n in DEFAULTS] == [
            (25, 5, ["service"]),
            (100, 5, ["service"]),
            (50, 5, ["service"]),
        ]
        assert [AlertRule.Severity.Name(found[n].severity) for n in DEFAULTS] == ["CRITICAL", "CRITICAL", "HIGH"]
        await world.rules.DeleteAlertRule(pb.DeleteAlertRuleRequest(id=found["Slow responses"].id))
    async with running(settings) as world:
        assert await names(world) == ["Failed responses", "High error count"]


async def test_a_rule_is_created_read_listed_and_deleted(world: World) -> None:
    stored = await created(world, labels={"team": "payments"})
    assert uuid.UUID(stored.id).version == 7
    assert stored.filter == "level >= ERROR"
    assert stored.revision == stored.selection_revision == 4
    assert await got(world, stored.id) == stored
    assert await names(world) == sorted([*DEFAULTS, "High Error Rate"])
    await world.rules.DeleteAlertRule(pb.DeleteAlertRuleRequest(id=stored.id, etag=stored.etag))
    assert await names(world) == DEFAULTS
    gone = await refusal(got(world, stored.id))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "RULE_NOT_FOUND")
    query = "select array_agg(edit order by revision) from alert_rule_history where rule_id = $1"
    edits = await world.value(query, stored.id)
    assert edits == ["CREATED", "DELETED"]


async def test_everything_that_is_wrong_is_named_at_once(world: World) -> None:
    call = world.rules.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=AlertRule(filter="levl > 3")))
    wrong = await refusal(call)
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert {"name", "type", "filter", "threshold", "severity"} <= set(wrong.fields)
    long = await refusal(created(world, labels={"k" * 20_000: "v"}))
    assert (long.code, long.fields[0][:10]) == (grpc.StatusCode.INVALID_ARGUMENT, "labels[kkk")
    nul = await refusal(created(world, name="nul\0"))
    assert nul.fields == ("name",)
    assert (await refusal(created(world, labels={"a": "\0"}))).fields == ("labels",)
    assert (await refusal(world.rules.EnableAlertRule(pb.EnableAlertRuleRequest()))).fields == ("id",)


async def test_a_name_is_taken_once(world: World) -> None:
    await created(world)
    taken = await refusal(created(world))
    assert (taken.code, taken.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RULE_NAME_TAKEN")
    other = await created(world, name="Other")
    assert (await refusal(updated(world, other, name="High Error Rate"))).reason == "RULE_NAME_TAKEN"


async def test_a_repeated_request_gets_the_first_response(world: World) -> None:
    request = pb.CreateAlertRuleRequest(alert_rule=rule(), request_id=str(uuid.uuid4()))
    first, second, third = await asyncio.gather(*(world.rules.CreateAlertRule(request) for _ in range(3)))
    assert first == second == third
    other = pb.CreateAlertRuleRequest(alert_rule=rule(name="Other"), request_id=request.request_id)
    reused = await refusal(world.rules.CreateAlertRule(other))
    assert (reused.code, reused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    bad = pb.CreateAlertRuleRequest(alert_rule=rule(), request_id="one")
    assert (await refusal(world.rules.CreateAlertRule(bad))).fields == ("requestId",)


async def test_an_update_changes_what_the_mask_names_and_nothing_else(world: World) -> None:
    stored = await created(world, description="before")
    after = await updated(world, stored, "threshold", threshold=200, description="not in the mask")
    assert (after.threshold, after.description) == (200, "before")
    assert after.revision > stored.revision
    assert after.selection_revision == stored.selection_revision
    assert (await updated(world, after, "threshold", threshold=200)) == after
    unmasked = await updated(world, after, description="set", enabled=False)
    assert (unmasked.description, unmasked.enabled, unmasked.threshold) == ("set", False, 200)
    afresh = await updated(world, unmasked, "windowMinutes", window_minutes=10)
    assert afresh.selection_revision == afresh.revision
    cleared = await updated(world, afresh, "description")
    assert cleared.description == ""


async def test_a_star_replaces_and_another_type_brings_its_own_presets(world: World) -> None:
    stored = await created(world, description="before", labels={"a": "b"})
    slow = await updated(world, stored, "type", type="LATENCY_THRESHOLD")
    assert "response_time" in slow.filter
    changed: dict[str, Any] = {
        "name": "Whole",
        "type": "ERROR_RATE",
        "threshold": 1,
        "window_minutes": 1,
        "severity": "LOW",
    }
    whole = await updated(world, slow, "*", **changed)
    assert (whole.name, whole.description, dict(whole.labels), whole.enabled) == ("Whole", "", {}, True)
    assert whole.create_time == stored.create_time
    replaced = (
        await world.rules.ReplaceAlertRule(pb.ReplaceAlertRuleRequest(id=stored.id, alert_rule=rule(etag=whole.etag)))
    ).alert_rule
    assert (replaced.id, replaced.name) == (stored.id, "High Error Rate")


@pytest.mark.parametrize("paths", [["id"], ["revision"], ["no_such_field"], ["*", "name"], ["labels.team"]])
async def test_a_wrong_mask_is_refused_with_its_path(world: World, paths: list[str]) -> None:
    stored = await created(world)
    wrong = await refusal(updated(world, stored, *paths, name="x"))
    assert (wrong.code, wrong.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("updateMask",))
    assert f'"{paths[0]}"' in wrong.descriptions[0]


async def test_an_update_that_sets_nothing_is_refused(world: World) -> None:
    stored = await created(world)
    assert (await refusal(updated(world, stored, etag=stored.etag))).fields == ("alertRule",)


async def test_an_old_etag_is_refused(world: World) -> None:
    stored = await created(world)
    await updated(world, stored, "threshold", threshold=1, etag=stored.etag)
    for call in (
        updated(world, stored, "threshold", threshold=2, etag=stored.etag),
        world.rules.ReplaceAlertRule(pb.ReplaceAlertRuleRequest(id=stored.id, alert_rule=rule(etag=stored.etag))),
        world.rules.DeleteAlertRule(pb.DeleteAlertRuleRequest(id=stored.id, etag=stored.etag)),
    ):
        late = await refusal(call)
        assert (late.code, late.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_pages_visit_each_rule_once_and_their_tokens_hold_for_their_filters(world: World) -> None:
    for n in range(5):
        await created(world, name=f"rule {n}", enabled=n % 2 == 0)
    seen: list[str] = []
    token = ""
    while True:
        page = await world.rules.ListAlertRules(pb.ListAlertRulesRequest(page_size=3, page_token=token))
        seen += [each.name for each in page.alert_rules]
        if not page.next_page_token:
            break
        token = page.next_page_token
    assert seen == sorted([*DEFAULTS, *(f"rule {n}" for n in range(5))])
    assert await names(world, enabled=False) == ["rule 1", "rule 3"]
    for asked in ({"page_token": token, "enabled": True}, {"page_token": "%%%"}):
        call = world.rules.ListAlertRules(pb.ListAlertRulesRequest(**asked))
        assert (await refusal(call)).fields == ("pageToken",)


async def test_a_rule_is_validated_without_being_stored(world: World) -> None:
    answer = await world.rules.ValidateAlertRule(pb.ValidateAlertRuleRequest(alert_rule=rule()))
    assert (answer.alert_rule.filter, answer.alert_rule.id, answer.alert_rule.etag) == ("level >= ERROR", "", "")
    assert not answer.alert_rule.HasField("create_time")
    bad = world.rules.ValidateAlertRule(pb.ValidateAlertRuleRequest(alert_rule=rule(condition="count >")))
    assert (await refusal(bad)).fields == ("condition",)
    assert await names(world) == DEFAULTS


async def test_a_change_is_validated_against_the_stored_rules_without_being_stored(world: World) -> None:
    stored = await created(world)
    new = pb.CreateAlertRuleRequest(alert_rule=rule(name="Other"), validate_only=True)
    shown = (await world.rules.CreateAlertRule(new)).alert_rule
    assert (shown.name, shown.filter, shown.id, shown.etag) == ("Other", "level >= ERROR", "", "")
    edited = pb.UpdateAlertRuleRequest(id=stored.id, alert_rule=AlertRule(threshold=7), validate_only=True)
    shown = (await world.rules.UpdateAlertRule(edited)).alert_rule
    assert (shown.id, shown.threshold, shown.revision) == (stored.id, 7, 0)
    taken = pb.CreateAlertRuleRequest(alert_rule=rule(), validate_only=True)
    assert (await refusal(world.rules.CreateAlertRule(taken))).reason == "RULE_NAME_TAKEN"
    assert await got(world, stored.id) == stored
    assert await names(world) == sorted([*DEFAULTS, stored.name])


async def test_a_repeated_switch_changes_nothing(world: World) -> None:
    stored = await created(world)
    request = pb.DisableAlertRuleRequest(id=stored.id, request_id=str(uuid.uuid4()))
    first = await world.rules.DisableAlertRule(request)
    await world.rules.EnableAlertRule(pb.EnableAlertRuleRequest(id=stored.id))
    assert await world.rules.DisableAlertRule(request) == first
    assert (await got(world, stored.id)).enabled
    reused = pb.EnableAlertRuleRequest(id=stored.id, request_id=request.request_id)
    assert (await refusal(world.rules.EnableAlertRule(reused))).reason == "REQUEST_ID_REUSED"


async def test_disabling_resolves_the_alerts_and_enabling_counts_afresh(world: World) -> None:
    stored = await created(world)
    await world.publish(transition(rule_id=stored.id), transition(resource="other", rule_id="another rule"))
    await world.processed(2)
    off = (await world.rules.DisableAlertRule(pb.DisableAlertRuleRequest(id=stored.id))).alert_rule
    assert not off.enabled
    assert (await world.rules.DisableAlertRule(pb.DisableAlertRuleRequest(id=stored.id))).alert_rule == off
    await until(lambda: world.listed(states=["RESOLVED"]))
    states = {alert.rule_id: alert.state for alert in await world.listed()}
    assert states == {stored.id: Alert.RESOLVED, "another rule": Alert.FIRING}
    kinds = [
        notification.kind for notification, _ in await world.notifications(3) if notification.alert.rule_id == stored.id
    ]
    assert kinds == [Notification.FIRING, Notification.RESOLVED]
    on = (await world.rules.EnableAlertRule(pb.EnableAlertRuleRequest(id=stored.id))).alert_rule
    assert on.selection_revision == on.revision > off.revision


async def test_deleting_a_rule_resolves_its_alerts(world: World) -> None:
    stored = await created(world)
    await world.publish(transition(rule_id=stored.id))
    await world.processed(1)
    await world.rules.DeleteAlertRule(pb.DeleteAlertRuleRequest(id=stored.id))
    (alert,) = await until(lambda: world.listed(states=["RESOLVED"]))
    assert await world.value("select count(*) from rule_endings") == 0
    await world.publish(transition("RESOLVED", rule_id=stored.id, window=1))
    await world.processed(2)
    assert await world.history(alert.id) == ["FIRED", "RESOLVED"]


async def test_a_watch_sends_all_enabled_rules_each_change_at_once_and_heartbeats(
    world: World, settings: Any, running: Run
) -> None:
    calls = world.rules.WatchAlertRules(pb.WatchAlertRulesRequest())
    first = await calls.read()
    assert first.is_snapshot
    assert [each.name for each in first.alert_rules] == DEFAULTS
    heartbeat = await calls.read()
    assert (heartbeat.is_snapshot, heartbeat.revision) == (False, first.revision)
    up_to_date = world.rules.WatchAlertRules(pb.WatchAlertRulesRequest(known_revision=first.revision))
    assert not (await up_to_date.read()).is_snapshot
    # A change made at another instance is sent by this one.
    async with running(again(settings)) as other:
        loop = asyncio.get_running_loop()
        delays = []
        for n in range(5):
            change = asyncio.create_task(created(other, name=f"rule {n}"))
            while not (change_seen := await calls.read()).is_snapshot:
                pass
            seen_at = loop.time()
            stored = await change
            delays.append(seen_at - loop.time())
            assert stored in change_seen.alert_rules
        # The middle one: a busy machine may hold up one of them.
        assert sorted(delays)[2] < 0.05
        await other.rules.DisableAlertRule(pb.DisableAlertRuleRequest(id=stored.id))
        assert (await until(lambda: _snapshot(calls))).revision == stored.revision + 1
    calls.cancel()
    up_to_date.cancel()


async def _snapshot(calls: Any) -> Any:
    message = await calls.read()
    return message if message.is_snapshot and "rule 4" not in [each.name for each in message.alert_rules] else None


async def test_a_read_after_a_change_is_never_stale_even_at_another_instance(
    world: World, settings: Any, running: Run
) -> None:
    async with running(again(settings)) as other:
        stored = await created(world)
        for n in range(1, 30):
            writer, reader = (world, other) if n % 2 else (other, world)
            await got(reader, stored.id)
            after = await updated(writer, stored, "threshold", threshold=n)
            assert await got(reader, stored.id) == after
            assert after in (await reader.rules.ListAlertRules(pb.ListAlertRulesRequest())).alert_rules


async def test_large_patterns_are_refused_and_so_are_too_many_rules_at_once(world: World) -> None:
    patterns = [rf'message.matches(r"\pL{{300}}{number}")' for number in range(32)]
    large = rule(type="CUSTOM", filter=" || ".join(patterns))
    calls = [world.rules.ValidateAlertRule(pb.ValidateAlertRuleRequest(alert_rule=large)) for _ in range(40)]
    refusals = await asyncio.gather(*map(refusal, calls))
    reasons = {(each.code.name, each.reason, each.has_retry) for each in refusals}
    assert reasons == {
        ("INVALID_ARGUMENT", "INVALID_REQUEST", False),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", True),
    }
    assert await names(world) == DEFAULTS
