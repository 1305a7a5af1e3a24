"""The rules as they are loaded, and their cache."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.backoff import Backoff
from services.chassis.health import Health
from services.domain.severity import Severity
from services.evaluator.adapters import rule_client
from services.evaluator.adapters.rule_client import PendingUpdate, RuleCache, RuleClient, RuleUpdate, UpdateReader
from services.evaluator.core import rules as rules_module
from services.evaluator.core.rules import RuleSet
from services.evaluator.core.window import condition
from services.evaluator.core.window.condition import Condition
from services.manager.core.rule import StoredRule
from services.manager.messages.rules import PAGE_BYTES
from services.rule_language.checking import Expression
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.edge import Edge
from tests.fakes.evaluator import NOW
from tests.fakes.rule_manager import AlertRule, FakeManager, a_rule, watch_handler
from tocsin.rules.v1.alert_rule_service_pb2 import WatchAlertRulesResponse


def update(*rules: AlertRule, revision: int = 1, is_snapshot: bool = True, removed: Sequence[str] = ()) -> RuleUpdate:
    return RuleUpdate(
        revision=revision, is_snapshot=is_snapshot, rules={rule.id: rule for rule in rules}, removed=removed
    )


async def test_loaded_rules_are_there_at_the_next_start(tmp_path: Path) -> None:
    changes: list[RuleSet] = []
    client = RuleClient(RuleCache(tmp_path / "new"), changes.append)
    await client.load_cache()
    assert client.current is None
    await client.apply(update(a_rule()))
    again = RuleClient(RuleCache(tmp_path / "new"))
    await again.load_cache()
    assert list((await again.loaded()).rules) == ["rule-errors"]
    assert [each.revision for each in changes] == [1]


async def test_a_cache_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "rules.binpb").write_bytes(b"\xff")
    assert RuleCache(tmp_path).read() is None


async def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = RuleClient(RuleCache(tmp_path / "file"))
    await client.apply(update(a_rule()))
    assert (await client.loaded()).revision == 1


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
    client = RuleClient(RuleCache(tmp_path))
    await client.apply(update(a_rule(), a_rule(id="odd", **changed)))
    rules = await client.loaded()
    assert (list(rules.rules), list(rules.refused)) == (["rule-errors"], ["odd"])
    assert not rules.has_ended(("odd", 1), 1)


async def test_a_rule_that_cannot_be_compiled_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_condition(expression: Expression) -> Condition:
        if expression.text == "count > 7":
            raise RecursionError("a fault")
        return lower(expression)

    lower = condition.compile_condition
    monkeypatch.setattr(rules_module, "compile_condition", compile_condition)
    client = RuleClient(RuleCache(tmp_path))
    await client.apply(update(a_rule(id="odd", condition="count > 7"), a_rule()))
    rules = await client.loaded()
    assert (list(rules.rules), list(map(repr, rules.refused.values()))) == (
        ["rule-errors"],
        ["RecursionError('a fault')"],
    )


async def test_a_rule_that_did_not_change_is_not_compiled_again(tmp_path: Path) -> None:
    client = RuleClient(RuleCache(tmp_path))
    await client.apply(update(a_rule()))
    before = (await client.loaded()).rules["rule-errors"]
    await client.apply(update(a_rule(), a_rule(id="new"), revision=2))
    assert (await client.loaded()).rules["rule-errors"] is before


async def test_the_managers_rules_replace_those_of_the_cache_whatever_their_revision(tmp_path: Path) -> None:
    RuleCache(tmp_path).write(1, [a_rule(id="of-another-database")])
    loaded = asyncio.Queue[RuleSet]()
    client = RuleClient(RuleCache(tmp_path), loaded.put_nowait)
    await client.load_cache()
    before = await loaded.get()
    manager = FakeManager(a_rule())
    await manager.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{manager.port}") as mesh:
        following = asyncio.create_task(client.watch(mesh, Health("evaluator").dependency("manager")))
        async with asyncio.timeout(10):
            after = await loaded.get()
        following.cancel()
    await manager.stop()
    assert (after.revision, list(after.rules)) == (before.revision, ["rule-errors"])


async def test_changes_leave_the_other_rules_as_they_are(tmp_path: Path) -> None:
    client = RuleClient(RuleCache(tmp_path))
    await client.apply(update(a_rule(), a_rule(id="old"), a_rule(id="odd", condition="count >")))
    before = await client.loaded()
    await client.apply(update(a_rule(id="new"), revision=2, is_snapshot=False, removed=["old"]))
    after = await client.loaded()
    assert (after.revision, list(after.rules), list(after.refused)) == (2, ["rule-errors", "new"], ["odd"])
    assert after.rules["rule-errors"] is before.rules["rule-errors"]
    assert after.has_ended(("old", 1), 1)
    await client.apply(update(a_rule(id="odd"), revision=3, is_snapshot=False))
    assert (list((await client.loaded()).rules), (await client.loaded()).refused) == (["rule-errors", "new", "odd"], {})
    again = RuleClient(RuleCache(tmp_path))
    await again.load_cache()
    assert set((await again.loaded()).rules) == {"rule-errors", "new", "odd"}


def page(
    kind: WatchAlertRulesResponse.Kind.ValueType, *rules: AlertRule, has_more: bool = False
) -> WatchAlertRulesResponse:
    return WatchAlertRulesResponse(
        revision=7, kind=kind, alert_rules=rules, has_more=has_more, resume_token="" if has_more else "e.7"
    )


def test_pages_are_an_update_when_the_last_has_come() -> None:
    pages = UpdateReader()
    assert pages.add(page(WatchAlertRulesResponse.SNAPSHOT, a_rule(id="a"), has_more=True)) is None
    assert pages.add(page(WatchAlertRulesResponse.SNAPSHOT, a_rule(id="b"), has_more=True)) is None
    snapshot = pages.add(page(WatchAlertRulesResponse.SNAPSHOT, a_rule(id="c")))
    assert snapshot is not None
    assert (snapshot.is_snapshot, list(snapshot.rules), snapshot.resume_token) == (True, ["a", "b", "c"], "e.7")
    assert pages.add(page(WatchAlertRulesResponse.HEARTBEAT)) is None
    changes = pages.add(page(WatchAlertRulesResponse.CHANGES, a_rule(id="d")))
    assert changes is not None
    assert (changes.is_snapshot, list(changes.rules)) == (False, ["d"])


def test_a_manager_without_pages_is_understood() -> None:
    assert UpdateReader().add(WatchAlertRulesResponse(revision=7)) is None
    snapshot = UpdateReader().add(WatchAlertRulesResponse(revision=7, is_snapshot=True, alert_rules=[a_rule()]))
    assert snapshot is not None
    assert (snapshot.is_snapshot, list(snapshot.rules), snapshot.resume_token) == (True, ["rule-errors"], "")


AT_ONCE = Backoff(first_delay=timedelta(milliseconds=10), max_delay=timedelta(milliseconds=10))


@asynccontextmanager
async def following(client: RuleClient, port: int) -> AsyncIterator[None]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as mesh:
        manager = Health("evaluator").dependency("manager")
        task = asyncio.create_task(client.watch(mesh, manager, AT_ONCE))
        try:
            async with asyncio.timeout(60):
                yield
        finally:
            task.cancel()


class Broken:
    """Ends its stream after the first page, and keeps the requests."""

    def __init__(self) -> None:
        self.asked = asyncio.Queue[Any]()

    async def WatchAlertRules(self, request: Any, _context: Any) -> AsyncIterator[WatchAlertRulesResponse]:  # noqa: N802  (gRPC's name)
        await self.asked.put(request)
        yield page(WatchAlertRulesResponse.SNAPSHOT, a_rule(id="half"), has_more=True)


async def test_a_stream_that_breaks_within_the_rules_changes_nothing(tmp_path: Path) -> None:
    client = RuleClient(RuleCache(tmp_path))
    await client.apply(replace(update(a_rule()), resume_token="e.1"))
    broken, server = Broken(), grpc.aio.server()
    server.add_generic_rpc_handlers([watch_handler(broken.WatchAlertRules)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with following(client, port):
        asked = [await broken.asked.get() for _ in range(3)]
    await server.stop(0)
    assert [(each.accepts_pages, each.resume_token) for each in asked] == [(True, "e.1")] * 3
    assert list((await client.loaded()).rules) == ["rule-errors"]


async def test_many_large_rules_are_loaded_and_an_edit_sends_one_rule(tmp_path: Path) -> None:
    edge, server = Edge(), grpc.aio.server()
    edge.store.tables.rules = {f"rule-{n}": stored_rule(n) for n in range(3000)}
    edge.store.tables.revision = 3000
    edge.mount(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await edge.rules.refresh()
    loaded = asyncio.Queue[RuleSet]()
    client, sent = RuleClient(RuleCache(tmp_path), loaded.put_nowait), Sent()
    async with following(client, port):
        with sent.noted():
            assert len((await loaded.get()).rules) == 3000
            assert sum(sent.sizes) > 3000 * 8192
            assert max(sent.sizes) < 2 * PAGE_BYTES
            sent.sizes.clear()
            edge.store.tables.rules["rule-7"] = stored_rule(7, revision=3001, threshold=5)
            edge.store.tables.revision = 3001
            await edge.rules.refresh()
            assert (await loaded.get()).rules["rule-7"].rule.threshold == 5
            assert len(sent.sizes) == 1
            assert sent.sizes[0] < 16_384
            del edge.store.tables.rules["rule-8"]
            edge.store.tables.deleted_rules["rule-8"] = edge.store.tables.revision = 3002
            await edge.rules.refresh()
            assert (await loaded.get()).has_ended(("rule-8", 9), 9)
    edge.rules.close()
    await server.stop(0)


RULES = [a_rule(id=rule_id, threshold=threshold) for rule_id in "abc" for threshold in (1.0, 2.0)]
updates = st.builds(
    lambda rules, removed, is_snapshot: update(
        *rules, is_snapshot=is_snapshot, removed=removed - {rule.id for rule in rules}
    ),
    st.lists(st.sampled_from(RULES), max_size=3, unique_by=lambda rule: rule.id),
    st.sets(st.sampled_from("abc")),
    st.booleans(),
)


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from(RULES)), st.lists(updates, min_size=1, max_size=4))
def test_updates_that_are_joined_do_what_they_do_one_after_the_other(
    before: dict[str, AlertRule], given_updates: list[RuleUpdate]
) -> None:
    def applied(rules: Mapping[str, AlertRule], one: RuleUpdate) -> dict[str, AlertRule]:
        kept = {} if one.is_snapshot else {each: rule for each, rule in rules.items() if each not in one.removed}
        return kept | dict(one.rules)

    assert applied(before, reduce(RuleUpdate.then, given_updates)) == reduce(applied, given_updates, before)


async def test_what_comes_while_rules_compile_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end, compiled = threading.Event(), threading.Event(), list[int]()
    compile_rules = rule_client._compile

    def slowly(update: RuleUpdate, *others: Any) -> RuleSet:
        compiled.append(update.revision)
        begun.set()
        assert may_end.wait(30)
        return compile_rules(update, *others)

    monkeypatch.setattr(rule_client, "_compile", slowly)
    client, pending = RuleClient(RuleCache(tmp_path)), PendingUpdate()
    pending.add(update(a_rule(), revision=1))
    applying = asyncio.create_task(client._apply_each(pending))
    await asyncio.to_thread(begun.wait, 30)
    for revision in range(2, 9):
        pending.add(update(a_rule(id=f"rule-{revision}"), revision=revision, is_snapshot=False))
    may_end.set()
    pending.close()
    await applying
    assert compiled == [1, 8]
    assert len((await client.loaded()).rules) == 8


class Sent:
    """The sizes of the messages that come."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        add = UpdateReader.add

        def noting(pages: UpdateReader, page: WatchAlertRulesResponse) -> RuleUpdate | None:
            self.sizes.append(page.ByteSize())
            return add(pages, page)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(UpdateReader, "add", noting)
            yield


def stored_rule(number: int, *, revision: int | None = None, threshold: float = 1) -> StoredRule:
    """A rule of eight KiB."""
    draft = Draft(
        id=f"rule-{number}",
        name=f"rule {number}",
        description="d" * 4096,
        type=RuleType.ERROR_THRESHOLD,
        threshold=threshold,
        window_minutes=1,
        severity=Severity.LOW,
        labels={"severity": "of a former release"} | {str(label): "v" * 256 for label in range(15)},
        revision=number + 1 if revision is None else revision,
        selection_revision=number + 1,
    )
    return StoredRule(rule=complete(draft, is_stored=True), create_time=NOW, update_time=NOW)
