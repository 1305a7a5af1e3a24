"""Rules are compiled beside the event loop, a bounded number at once."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.failures import InvalidRequest, Overloaded
from services.manager.metrics import Metrics
from services.manager.rpc import rule_commands
from services.manager.rpc.failures import TooManyRules
from services.manager.rpc.rule_checking import RuleChecker
from services.rule_language.rule import Draft
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryRules, MemoryStore
from tocsin.rules.v1 import alert_rule_service_pb2 as pb
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@pytest.fixture
def checker() -> Iterator[RuleChecker]:
    checker = RuleChecker(at_once=1, waiting=1)
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


async def test_a_caller_who_goes_away_takes_his_place_along(checker: RuleChecker) -> None:
    release = threading.Event()
    began = asyncio.create_task(checker.compile(release.wait, timeout=60))
    waiting = asyncio.create_task(checker.compile(list))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await asyncio.gather(began, checker.compile(list)) == [True, []]


async def test_there_are_not_more_rules_than_a_limit(checker: RuleChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_commands, "MAX_RULES", 1)
    commands = rule_commands.RuleCommands(MemoryStore(), FakeClock(), lambda: str(uuid4()), Metrics(), checker)
    first, second = (
        AlertRule(name=name, type="ERROR_THRESHOLD", threshold=1, window_minutes=1, severity="LOW") for name in "ab"
    )
    kept = (await commands.create(pb.CreateAlertRuleRequest(alert_rule=first))).alert_rule
    with pytest.raises(TooManyRules, match="there are 1 alert rules"):
        await commands.create(pb.CreateAlertRuleRequest(alert_rule=second))
    await commands.delete(pb.DeleteAlertRuleRequest(id=kept.id))
    await commands.create(pb.CreateAlertRuleRequest(alert_rule=second))


async def test_an_edit_locks_the_revision_of_all_rules_only_when_its_own_is_compiled(
    checker: RuleChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = rule_commands.RuleCommands(MemoryStore(), FakeClock(), lambda: str(uuid4()), Metrics(), checker)
    given = AlertRule(name="a", type="ERROR_THRESHOLD", threshold=1, window_minutes=1, severity="LOW")
    kept = (await commands.create(pb.CreateAlertRuleRequest(alert_rule=given))).alert_rule
    steps: list[str] = []
    compile_rule, next_revision = checker.compile, MemoryRules.next_revision

    async def noted_compile(*args: Any, **kwargs: Any) -> Any:
        steps.append("compiled")
        return await compile_rule(*args, **kwargs)

    async def noted_revision(rules: MemoryRules) -> int:
        steps.append("locked")
        return await next_revision(rules)

    monkeypatch.setattr(checker, "compile", noted_compile)
    monkeypatch.setattr(MemoryRules, "next_revision", noted_revision)
    given.filter = "level >= WARN"
    after = (await commands.replace(pb.ReplaceAlertRuleRequest(id=kept.id, alert_rule=given))).alert_rule
    assert after.revision > kept.revision
    assert steps == ["compiled", "compiled", "locked"]


async def test_what_is_not_allowed_is_named_by_field(checker: RuleChecker) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await checker.completed(Draft(filter=r'message.matches(r"\pL{1000}")'))
    found = {violation.field: violation.description for violation in refused.value.violations}
    assert found["filter"].startswith("line 1, column 17: this pattern is too large")
    assert found["name"] == "is required"
