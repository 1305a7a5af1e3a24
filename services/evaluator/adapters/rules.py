"""The manager's rules: followed by a stream, with a copy on disk for the time when there is none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.health import Dependency
from services.chassis.loops import Loop
from services.domain.severity import Severity
from services.evaluator.core.ruleset import RuleSet
from services.rule_language.rule import Draft, Rule, RuleError, RuleType, complete
from tocsin.rules.v1 import alert_rule_pb2, alert_rule_service_pb2
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

log = structlog.get_logger()

# The manager gives a sign of life every 10 seconds.
_SILENCE_SECONDS = 25.0
_COPY = "rules.binpb"

Snapshot = alert_rule_service_pb2.WatchAlertRulesResponse


class RulesUnavailable(Failure):
    """The manager does not tell its rules."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "RULES_UNAVAILABLE"


class RuleBook:
    """The rules as they are known now."""

    def __init__(self, copy: "RuleCopy", changed: Callable[[RuleSet], None] = lambda _: None) -> None:
        self._copy = copy
        self._changed = changed
        self._known = asyncio.Event()
        self._current: RuleSet | None = None

    @property
    def current(self) -> RuleSet | None:
        """None until they were known for the first time."""
        return self._current

    async def known(self) -> RuleSet:
        """Wait until there are rules."""
        await self._known.wait()
        if self._current is None:
            raise RuntimeError("rules are said to be known, but there are none")
        return self._current

    async def open_copy(self) -> None:
        """Begin with the copy, if there is one."""
        snapshot = await asyncio.to_thread(self._copy.read)
        if snapshot is not None:
            await self._take(snapshot, "copy")

    async def take(self, snapshot: Snapshot) -> None:
        """Take over the rules of one revision, and keep a copy."""
        await self._take(snapshot, "manager")
        await asyncio.to_thread(self._copy.write, snapshot)

    async def _take(self, snapshot: Snapshot, source: str) -> None:
        # Compiling many rules takes long enough to do it beside the event loop.
        rules = await asyncio.to_thread(_rule_set, snapshot, self._current)
        for rule_id, problem in rules.refused.items():
            log.error("rule_refused", rule_id=rule_id, problem=problem)
        log.info("rules_learned", revision=rules.revision, rules=len(rules.rules), source=source)
        self._current = rules
        self._known.set()
        self._changed(rules)


class RuleCopy:
    """The last rules that were heard of, in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _COPY

    def read(self) -> Snapshot | None:
        """Give the copy; None when there is none, or none that can be read."""
        try:
            return Snapshot.FromString(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, DecodeError):
            log.exception("rule_copy_unreadable", path=str(self._path))
            return None

    def write(self, snapshot: Snapshot) -> None:
        """Keep a copy, whole or not at all. Without one the next start waits for the manager: no reason to stop."""
        written = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written.write_bytes(snapshot.SerializeToString())
            written.replace(self._path)
        except OSError:
            log.exception("rule_copy_unwritable", path=str(self._path))


async def follow(
    mesh: grpc.aio.Channel, book: RuleBook, manager: Dependency, retry: Backoff = Backoff(most=timedelta(seconds=2))
) -> None:
    """Follow the manager's rules for ever; while it is away go on with what is known."""

    async def turn() -> None:
        try:
            async for snapshot in _snapshots(mesh):
                manager.up()
                if snapshot.is_snapshot:
                    await book.take(snapshot)
        except grpc.aio.AioRpcError as error:
            manager.down(error.code().name)
            raise RulesUnavailable("the manager does not answer") from error
        except TimeoutError as error:
            manager.down("no sign of life")
            raise RulesUnavailable("the manager does not answer") from error

    await Loop(turn, name="follow rules", every=retry.first, backoff=retry).run()


async def _snapshots(mesh: grpc.aio.Channel) -> AsyncIterator[Snapshot]:
    # All of them each time: the same revision of a database that was made anew means other rules.
    call = AlertRuleServiceStub(mesh).WatchAlertRules(alert_rule_service_pb2.WatchAlertRulesRequest())
    try:
        while isinstance(snapshot := await asyncio.wait_for(call.read(), _SILENCE_SECONDS), Snapshot):
            yield snapshot
    finally:
        call.cancel()


def _rule_set(snapshot: Snapshot, before: RuleSet | None) -> RuleSet:
    rules, refused = [], {}
    for message in snapshot.alert_rules:
        try:
            rules.append(_rule(message))
        except (RuleError, ValueError) as error:
            refused[message.id] = str(error)
    found = RuleSet.of(snapshot.revision, rules, before)
    return replace(found, refused={**found.refused, **refused})


def _rule(message: alert_rule_pb2.AlertRule) -> Rule:
    has_window = message.WhichOneof("length") == "window"
    return complete(
        Draft(
            id=message.id,
            name=message.name,
            description=message.description,
            type=RuleType(message.type),
            scope=message.scope,
            filter=message.filter,
            group_by=tuple(message.group_by),
            value_field=message.value_field,
            condition=message.condition,
            threshold=message.threshold,
            window_minutes=None if has_window else message.window_minutes,
            window=message.window.ToTimedelta() if has_window else None,
            lateness=message.lateness.ToTimedelta() if message.HasField("lateness") else None,
            severity=Severity(message.severity),
            labels=dict(message.labels),
            enabled=True,
            revision=message.revision,
            selection_revision=message.selection_revision,
        )
    )
