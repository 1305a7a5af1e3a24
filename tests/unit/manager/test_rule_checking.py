"""Rules are compiled beside the event loop, a bounded number at once."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from services.chassis.failures import InvalidRequest, Overloaded
from services.manager.rpc.rule_checking import RuleChecker
from services.rule_language.rule import Draft


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


async def test_what_is_not_allowed_is_named_by_field(checker: RuleChecker) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await checker.completed(Draft(filter=r'message.matches(r"\pL{1000}")'))
    found = {violation.field: violation.description for violation in refused.value.violations}
    assert found["filter"].startswith("line 1, column 17: this pattern is too large")
    assert found["name"] == "is required"
