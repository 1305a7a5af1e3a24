"""The manager's rules: followed by a stream, with a copy on disk for the time when there is none."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.health import Dependency
from services.chassis.loops import Loop
from services.contract.alert_rules import read_alert_rule
from services.evaluator.core.rules import RuleSet
from services.rule_language.rule import Rule, complete
from tocsin.rules.v1 import alert_rule_pb2, alert_rule_service_pb2
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub

log = structlog.get_logger()

# The manager gives a sign of life every 10 seconds.
_SILENCE_SECONDS = 25.0
_COPY = "rules.binpb"

Snapshot = alert_rule_service_pb2.WatchAlertRulesResponse
AlertRule = alert_rule_pb2.AlertRule


class RulesUnavailable(Failure):
    """The manager does not tell its rules."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "RULES_UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """All pages of one message of the manager."""

    revision: int
    # Whether `rules` are all that there are, or what changed in those that are known.
    is_whole: bool
    rules: Mapping[str, AlertRule]
    removed: Collection[str] = ()
    resume_token: str = ""


class Pages:
    """Puts the pages of one stream together. What breaks off half-way never becomes an update."""

    def __init__(self) -> None:
        self._pages: list[Snapshot] = []

    def add(self, page: Snapshot) -> Update | None:
        """Give the update that this page is the last of; None when it is none, or a sign of life."""
        # A manager that knows no pages sends all rules in one message, or a sign of life.
        if page.kind == Snapshot.HEARTBEAT or (page.kind == Snapshot.KIND_UNSPECIFIED and not page.is_snapshot):
            return None
        self._pages.append(page)
        if page.has_more:
            return None
        pages, self._pages = self._pages, []
        return Update(
            revision=page.revision,
            is_whole=page.kind != Snapshot.CHANGES,
            rules={rule.id: rule for each in pages for rule in each.alert_rules},
            removed=[rule_id for each in pages for rule_id in each.removed_ids],
            resume_token=page.resume_token,
        )


class RuleBook:
    """The rules as they are known now."""

    def __init__(self, copy: "RuleCopy", changed: Callable[[RuleSet], None] = lambda _: None) -> None:
        self._copy = copy
        self._changed = changed
        self._known = asyncio.Event()
        self._current: RuleSet | None = None
        self._rules: Mapping[str, AlertRule] = {}
        # From where to go on after the manager's stream has broken; nowhere when the rules are a copy's.
        self.resume_token = ""

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
        update = Pages().add(snapshot) if snapshot is not None else None
        if update is not None:
            await self._take(update, "copy")

    async def take(self, update: Update) -> None:
        """Take over the rules of one revision, and keep a copy."""
        await self._take(update, "manager")
        self.resume_token = update.resume_token
        await asyncio.to_thread(self._copy.write, update.revision, self._rules.values())

    async def _take(self, update: Update, source: str) -> None:
        kept = {} if update.is_whole else self._rules
        rules = {rule_id: rule for rule_id, rule in kept.items() if rule_id not in update.removed} | dict(update.rules)
        # Compiling many rules takes long enough to do it beside the event loop.
        found = await asyncio.to_thread(_rule_set, update, self._rules, self._current)
        for rule_id in update.rules.keys() & found.refused.keys():
            log.error("rule_refused", rule_id=rule_id, problem=found.refused[rule_id])
        log.info("rules_learned", revision=found.revision, rules=len(found.rules), source=source)
        self._rules, self._current = rules, found
        self._known.set()
        self._changed(found)


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

    def write(self, revision: int, rules: Iterable[AlertRule]) -> None:
        """Keep a copy, whole or not at all. Without one the next start waits for the manager: no reason to stop."""
        written = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            snapshot = Snapshot(revision=revision, is_snapshot=True, alert_rules=rules)
            written.write_bytes(snapshot.SerializeToString())
            written.replace(self._path)
        except OSError:
            log.exception("rule_copy_unwritable", path=str(self._path))


async def follow(
    mesh: grpc.aio.Channel,
    book: RuleBook,
    manager: Dependency,
    retry: Backoff = Backoff(max_delay=timedelta(seconds=2)),
) -> None:
    """Follow the manager's rules for ever; while it is away go on with what is known."""

    async def turn() -> None:
        try:
            pages = Pages()
            async for page in _pages(mesh, book.resume_token):
                manager.up()
                loop.mark_working()
                if (update := pages.add(page)) is not None:
                    await book.take(update)
        except grpc.aio.AioRpcError as error:
            manager.down(error.code().name)
            raise RulesUnavailable("the manager does not answer") from error
        except TimeoutError as error:
            manager.down("no sign of life")
            raise RulesUnavailable("the manager does not answer") from error

    loop = Loop(turn, name="follow rules", every=retry.first_delay, backoff=retry)
    await loop.run()


async def _pages(mesh: grpc.aio.Channel, resume_token: str) -> AsyncIterator[Snapshot]:
    # Without a token all of them: the same revision of a database that was made anew means other rules.
    request = alert_rule_service_pb2.WatchAlertRulesRequest(accepts_pages=True, resume_token=resume_token)
    call = AlertRuleServiceStub(mesh).WatchAlertRules(request)
    try:
        while isinstance(page := await asyncio.wait_for(call.read(), _SILENCE_SECONDS), Snapshot):
            yield page
    finally:
        call.cancel()


def _rule_set(update: Update, known: Mapping[str, AlertRule], before: RuleSet | None) -> RuleSet:
    """The rules after an update; what is known already is not compiled again."""
    compiled = before.rules if before else {}
    rules, refused = [], {}
    for message in update.rules.values():
        try:
            is_known = message.id in compiled and known.get(message.id) == message
            rules.append(compiled[message.id].rule if is_known else _rule(message))
        except Exception as error:  # noqa: BLE001  (one rule that is not understood must not stop the others)
            refused[message.id] = str(error)
    found = RuleSet.of(update.revision, rules, before)
    found = replace(found, refused={**found.refused, **refused})
    return found if update.is_whole or before is None else before.with_changes(found, update.removed)


def _rule(message: AlertRule) -> Rule:
    # The manager sends enabled rules only.
    return complete(replace(read_alert_rule(message), enabled=True))
