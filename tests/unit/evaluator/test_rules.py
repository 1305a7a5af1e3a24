"""The rules as they are known, and their copy."""

import asyncio
from pathlib import Path

import grpc
import pytest

from services.chassis.health import Health
from services.evaluator.adapters.rules import RuleBook, RuleCopy, Snapshot, follow
from services.evaluator.core import ruleset
from services.evaluator.core.condition import Condition
from services.evaluator.core.ruleset import RuleSet
from services.rule_language.checking import Expression
from tests.fakes.rule_manager import FakeManager, a_rule


def snapshot(*rules: object, revision: int = 1) -> Snapshot:
    return Snapshot(revision=revision, is_snapshot=True, alert_rules=rules)  # type: ignore[arg-type]


async def test_what_was_heard_is_there_at_the_next_start(tmp_path: Path) -> None:
    told: list[RuleSet] = []
    book = RuleBook(RuleCopy(tmp_path / "new"), told.append)
    await book.open_copy()
    assert book.current is None
    await book.take(snapshot(a_rule()))
    again = RuleBook(RuleCopy(tmp_path / "new"))
    await again.open_copy()
    assert list((await again.known()).rules) == ["rule-errors"]
    assert [each.revision for each in told] == [1]


async def test_a_copy_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "rules.binpb").write_bytes(b"\xff")
    assert RuleCopy(tmp_path).read() is None


async def test_a_copy_that_cannot_be_written_does_not_stop_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book = RuleBook(RuleCopy(tmp_path / "file"))
    await book.take(snapshot(a_rule()))
    assert (await book.known()).revision == 1


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"condition": "count >"}, id="an expression"),
        pytest.param({"type": 77}, id="a type of the future"),
        pytest.param({"window_minutes": 0}, id="no window"),
        pytest.param({"filter": r'message.matches(r"\pL{1000}")'}, id="too large a pattern"),
    ],
)
async def test_a_rule_that_is_not_understood_is_left_alone(tmp_path: Path, changed: dict[str, object]) -> None:
    book = RuleBook(RuleCopy(tmp_path))
    await book.take(snapshot(a_rule(), a_rule(id="odd", **changed)))
    rules = await book.known()
    assert (list(rules.rules), list(rules.refused)) == (["rule-errors"], ["odd"])
    assert not rules.has_ended("odd", 1, 1)


async def test_a_rule_that_cannot_be_compiled_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def condition(expression: Expression) -> Condition:
        if expression.text == "count > 7":
            raise RecursionError("a mistake of ours")
        return lower(expression)

    lower = ruleset.condition
    monkeypatch.setattr(ruleset, "condition", condition)
    book = RuleBook(RuleCopy(tmp_path))
    await book.take(snapshot(a_rule(id="odd", condition="count > 7"), a_rule()))
    rules = await book.known()
    assert (list(rules.rules), dict(rules.refused)) == (["rule-errors"], {"odd": "a mistake of ours"})


async def test_a_rule_that_did_not_change_is_not_compiled_again(tmp_path: Path) -> None:
    book = RuleBook(RuleCopy(tmp_path))
    await book.take(snapshot(a_rule()))
    before = (await book.known()).rules["rule-errors"]
    await book.take(snapshot(a_rule(), a_rule(id="new"), revision=2))
    assert (await book.known()).rules["rule-errors"] is before


async def test_the_manager_is_believed_at_whatever_revision_it_is(tmp_path: Path) -> None:
    RuleCopy(tmp_path).write(snapshot(a_rule(id="of-another-database")))
    learned = asyncio.Queue[RuleSet]()
    book = RuleBook(RuleCopy(tmp_path), learned.put_nowait)
    await book.open_copy()
    before = await learned.get()
    manager = FakeManager(a_rule())
    await manager.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{manager.port}") as mesh:
        following = asyncio.create_task(follow(mesh, book, Health("evaluator").dependency("manager")))
        async with asyncio.timeout(10):
            after = await learned.get()
        following.cancel()
    await manager.stop()
    assert (after.revision, list(after.rules)) == (before.revision, ["rule-errors"])
