"""Rules are compiled in threads, a few at once; a call with a request_id is done once, and a validating one never."""

import asyncio
import copy
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.failures import InvalidRequest, Overloaded, TenantLimitReached
from services.chassis.request_ids import RequestIdReused
from services.chassis.telemetry import exposition, telemetry
from services.chassis.tenants import as_tenant
from services.domain.tenants import TenantLimits
from services.manager.metrics import Metrics
from services.manager.rpc import rule_commands
from services.manager.rpc.failures import EtagMismatch, RuleNameTaken, TooManyRules
from services.manager.rpc.rule_commands import RuleChecker, RuleCommands
from services.rule_language.rule import Draft
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_tables import MemoryRules, Tables
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@pytest.fixture
def checker() -> Iterator[RuleChecker]:
    checker = RuleChecker(max_running=1, max_waiting=1)
    yield checker
    checker.close()


async def test_the_event_loop_goes_on_while_a_rule_is_compiled(checker: RuleChecker) -> None:
    release = threading.Event()
    compiling = asyncio.create_task(checker.compile(release.wait, timeout=60))
    await asyncio.sleep(0)
    assert not compiling.done()
    release.set()
    assert await compiling


async def test_what_would_wait_too_long_is_refused_with_a_hint(checker: RuleChecker) -> None:
    release = threading.Event()
    taken = [asyncio.create_task(checker.compile(release.wait, timeout=60)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await checker.compile(list)
    assert refused.value.retry_after is not None
    release.set()
    assert await asyncio.gather(*taken) == [True, True]
    assert await checker.compile(list) == []


async def test_a_caller_who_cancels_gives_up_the_place_in_the_queue(checker: RuleChecker) -> None:
    release = threading.Event()
    began = asyncio.create_task(checker.compile(release.wait, timeout=60))
    waiting: asyncio.Task[list[str]] = asyncio.create_task(checker.compile(list))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await began
    assert await checker.compile(list) == []


async def test_the_rules_of_a_tenant_are_limited_and_no_others(checker: RuleChecker) -> None:
    limits, store = TenantLimits.parse("0,acme=1"), MemoryStore()
    commands = RuleCommands(store, FakeClock(), lambda: str(uuid4()), Metrics(), checker, limits)
    rules = [
        AlertRule(name=name, type=AlertRule.ERROR_THRESHOLD, threshold=1, window_minutes=1, severity=AlertRule.LOW)
        for name in "ab"
    ]
    with as_tenant("acme"):
        created = await commands.create(pb.CreateAlertRuleRequest(alert_rule=rules[0]))
        assert created.alert_rule.tenant == "acme"
        with pytest.raises(TenantLimitReached, match="tenant acme may have 1 alert rules") as refused:
            await commands.create(pb.CreateAlertRuleRequest(alert_rule=rules[1]))
    assert refused.value.metadata == {"limit": "rules", "value": "1"}
    for rule in rules:
        await commands.create(pb.CreateAlertRuleRequest(alert_rule=rule))
    assert [len(store.tenants[tenant].rules) for tenant in ("acme", "default")] == [1, 2]


async def test_the_number_of_rules_is_limited(checker: RuleChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_commands, "MAX_RULES", 1)
    commands = rule_commands.RuleCommands(MemoryStore(), FakeClock(), lambda: str(uuid4()), Metrics(), checker)
    first, second = (
        AlertRule(name=name, type=AlertRule.ERROR_THRESHOLD, threshold=1, window_minutes=1, severity=AlertRule.LOW)
        for name in "ab"
    )
    stored = (await commands.create(pb.CreateAlertRuleRequest(alert_rule=first))).alert_rule
    with pytest.raises(TooManyRules, match="there are 1 alert rules"):
        await commands.create(pb.CreateAlertRuleRequest(alert_rule=second))
    await commands.delete(pb.DeleteAlertRuleRequest(id=stored.id))
    await commands.create(pb.CreateAlertRuleRequest(alert_rule=second))


async def test_an_edit_locks_the_revision_of_all_rules_only_when_its_own_is_compiled(
    checker: RuleChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = rule_commands.RuleCommands(MemoryStore(), FakeClock(), lambda: str(uuid4()), Metrics(), checker)
    rule = AlertRule(name="a", type=AlertRule.ERROR_THRESHOLD, threshold=1, window_minutes=1, severity=AlertRule.LOW)
    stored = (await commands.create(pb.CreateAlertRuleRequest(alert_rule=rule))).alert_rule
    steps: list[str] = []
    compile_rule, next_revision = checker.compile, MemoryRules.take_revision

    async def noted_compile(*args: Any, **kwargs: Any) -> Any:
        steps.append("compiled")
        return await compile_rule(*args, **kwargs)

    async def noted_revision(rules: MemoryRules) -> int:
        steps.append("locked")
        return await next_revision(rules)

    monkeypatch.setattr(checker, "compile", noted_compile)
    monkeypatch.setattr(MemoryRules, "take_revision", noted_revision)
    rule.filter = "level >= WARN"
    after = (await commands.replace(pb.ReplaceAlertRuleRequest(id=stored.id, alert_rule=rule))).alert_rule
    assert after.revision > stored.revision
    assert steps == ["compiled", "compiled", "compiled", "locked"]


async def test_what_is_not_allowed_is_named_by_field(checker: RuleChecker) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await checker.complete(Draft(filter=r'message.matches(r"\pL{1000}")'))
    found = {violation.field: violation.description for violation in refused.value.violations}
    assert found["filter"].startswith("line 1, column 17: this pattern is too large")
    assert found["name"] == "is required"


RULE = AlertRule(
    name="a", type=AlertRule.ERROR_THRESHOLD, threshold=1, window_minutes=1, severity=AlertRule.LOW, enabled=True
)
REQUEST_ID = "6f0c8a52-9e0b-4d3c-9a53-0d5e8f1b7c41"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def commands(store: MemoryStore, checker: RuleChecker) -> Iterator[RuleCommands]:
    with telemetry("manager", "test", ""):
        yield RuleCommands(store, FakeClock(), lambda: str(uuid4()), Metrics(), checker)


def _named(name: str) -> AlertRule:
    rule = AlertRule()
    rule.CopyFrom(RULE)
    rule.name = name
    return rule


def edits() -> float:
    (line,) = (
        line for line in exposition()[0].decode().splitlines() if line.startswith("tocsin_manager_rule_edits_total")
    )
    return float(line.rpartition(" ")[2])


async def test_a_rule_that_is_validated_is_shown_as_it_would_be_stored_and_is_not_stored(
    store: MemoryStore, commands: RuleCommands
) -> None:
    request = pb.CreateAlertRuleRequest(alert_rule=RULE, request_id=REQUEST_ID, validate_only=True)
    shown = (await commands.create(request)).alert_rule
    assert (shown.name, shown.filter) == ("a", "level >= ERROR")
    assert (shown.id, shown.etag, shown.revision, shown.selection_revision) == ("", "", 0, 0)
    assert not shown.HasField("create_time")
    assert (store.tables, edits()) == (Tables(), 0)
    request.validate_only = False
    stored = (await commands.create(request)).alert_rule
    assert (stored.filter, edits()) == (shown.filter, 1)
    assert list(store.tables.rules) == [stored.id]


async def test_an_edit_that_is_validated_is_checked_against_the_stored_rules(
    store: MemoryStore, commands: RuleCommands
) -> None:
    stored = (await commands.create(pb.CreateAlertRuleRequest(alert_rule=RULE))).alert_rule
    before = copy.deepcopy(store.tables)
    update = pb.UpdateAlertRuleRequest(id=stored.id, alert_rule=AlertRule(threshold=9), validate_only=True)
    shown = (await commands.update(update)).alert_rule
    assert (shown.id, shown.threshold, shown.etag, shown.revision) == (stored.id, 9, "", 0)
    assert (shown.create_time, shown.HasField("update_time")) == (stored.create_time, False)
    replaced = pb.ReplaceAlertRuleRequest(id=stored.id, alert_rule=_named("b"), validate_only=True)
    assert (await commands.replace(replaced)).alert_rule.name == "b"
    update.alert_rule.etag = "another"
    with pytest.raises(EtagMismatch):
        await commands.update(update)
    with pytest.raises(RuleNameTaken):
        await commands.create(pb.CreateAlertRuleRequest(alert_rule=RULE, validate_only=True))
    with pytest.raises(InvalidRequest):
        await commands.create(pb.CreateAlertRuleRequest(alert_rule=RULE, validate_only=True, request_id="no UUID"))
    assert store.tables == before


async def test_a_repeated_switch_gets_the_first_response_and_changes_nothing(
    store: MemoryStore, commands: RuleCommands
) -> None:
    stored = (await commands.create(pb.CreateAlertRuleRequest(alert_rule=RULE))).alert_rule
    disable = pb.DisableAlertRuleRequest(id=stored.id, request_id=REQUEST_ID)
    first = await commands.disable(disable)
    enabled = await commands.enable(pb.EnableAlertRuleRequest(id=stored.id))
    assert await commands.disable(disable) == first
    assert not first.alert_rule.enabled
    assert store.tables.rules[stored.id].rule.revision == enabled.alert_rule.revision
    assert edits() == 3
    for reused in (
        commands.enable(pb.EnableAlertRuleRequest(id=stored.id, request_id=REQUEST_ID)),
        commands.disable(pb.DisableAlertRuleRequest(id="another", request_id=REQUEST_ID)),
    ):
        with pytest.raises(RequestIdReused):
            await reused


async def test_every_call_that_brings_a_rule_warns_of_what_is_surely_not_meant(commands: RuleCommands) -> None:
    rule = _named("a")
    rule.filter = "level > FATAL"
    created = await commands.create(pb.CreateAlertRuleRequest(alert_rule=rule))
    rule_id = created.alert_rule.id
    replaced = await commands.replace(pb.ReplaceAlertRuleRequest(id=rule_id, alert_rule=rule, validate_only=True))
    updated = await commands.update(pb.UpdateAlertRuleRequest(id=rule_id, alert_rule=AlertRule(threshold=2)))
    for response in (created, replaced, updated):
        assert [warning.field for warning in response.warnings] == ["filter"]
    updated = await commands.update(pb.UpdateAlertRuleRequest(id=rule_id, alert_rule=AlertRule(filter="level > WARN")))
    assert list(updated.warnings) == []
