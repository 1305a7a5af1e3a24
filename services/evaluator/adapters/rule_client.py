"""The client of WatchAlertRules: the manager's rules, with a cache on disk for a start without the manager."""

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
from services.chassis.loops import Loop, background
from services.contract.alert_rules import read_alert_rule
from services.contract.timestamps import timestamp_of
from services.domain.problem_reason import ProblemReason
from services.evaluator.core.rule_problems import SetAsideRule
from services.evaluator.core.rules import RuleSet
from services.evaluator.ports import RuleCounts, RuleReport
from services.rule_language.rule import Rule, complete
from tocsin.rules.v1.alert_rule_pb2 import AlertRule
from tocsin.rules.v1.alert_rule_pb2 import RuleProblem as RuleProblemMessage
from tocsin.rules.v1.alert_rule_service_pb2 import WatchAlertRulesRequest, WatchAlertRulesResponse
from tocsin.rules.v1.alert_rule_service_pb2_grpc import AlertRuleServiceStub
from tocsin.rules.v1.rule_statistics_service_pb2 import ReportRuleStatisticsRequest, RuleStatistics
from tocsin.rules.v1.rule_statistics_service_pb2_grpc import RuleStatisticsServiceStub

log = structlog.get_logger()

# The manager sends a heartbeat every 10 seconds.
_HEARTBEAT_TIMEOUT_SECONDS = 25.0
_REPORT_TIMEOUT_SECONDS = 2.0
# What has come when the stream breaks is applied before the next one begins, unless that takes longer.
_APPLY_TIMEOUT = timedelta(seconds=30)
_FILE = "rules.binpb"


class RulesUnavailable(Failure):
    """The manager does not send rules."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "RULES_UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUpdate:
    """All rules of a revision, or the changes since the revision before."""

    revision: int
    is_snapshot: bool
    rules: Mapping[str, AlertRule]
    removed: Collection[str] = ()
    resume_token: str = ""

    def then(self, later: "RuleUpdate") -> "RuleUpdate":
        """Return one update that does what this one does, and then the later one."""
        if later.is_snapshot:
            return later
        rules = {rule_id: rule for rule_id, rule in self.rules.items() if rule_id not in later.removed}
        rules |= later.rules
        removed = {*self.removed, *later.removed} - rules.keys()
        return replace(later, is_snapshot=self.is_snapshot, rules=rules, removed=removed)


class PendingUpdate:
    """What has come and is not applied yet, as one update: compiling takes longer than many edits."""

    def __init__(self) -> None:
        self._update: RuleUpdate | None = None
        self._is_closed = False
        self._changed = asyncio.Event()

    def add(self, update: RuleUpdate) -> None:
        """Add an update to those that wait."""
        self._update = update if self._update is None else self._update.then(update)
        self._changed.set()

    def close(self) -> None:
        """Say that nothing more comes."""
        self._is_closed = True
        self._changed.set()

    async def take(self) -> RuleUpdate | None:
        """Wait for an update, and take all that wait; None once nothing waits and nothing more comes."""
        while self._update is None and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        update, self._update = self._update, None
        return update


class UpdateReader:
    """Joins the pages of one stream to updates. A stream that breaks between two pages leaves no update."""

    def __init__(self) -> None:
        self._pages: list[WatchAlertRulesResponse] = []

    def add(self, page: WatchAlertRulesResponse) -> RuleUpdate | None:
        """Return the update that this page completes; None for another page, or a heartbeat."""
        kind = page.kind
        # A manager that knows no pages sends all rules in one message, or a heartbeat.
        if kind == page.HEARTBEAT or (kind == page.KIND_UNSPECIFIED and not page.is_snapshot):
            return None
        self._pages.append(page)
        if page.has_more:
            return None
        pages, self._pages = self._pages, []
        return RuleUpdate(
            revision=page.revision,
            is_snapshot=kind != page.CHANGES,
            rules={rule.id: rule for each in pages for rule in each.alert_rules},
            removed=[rule_id for each in pages for rule_id in each.removed_ids],
            resume_token=page.resume_token,
        )


class RuleCache:
    """The last rules that the manager sent, in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def read(self) -> RuleUpdate | None:
        """Return the rules; None if there is no file, or no readable one."""
        try:
            return UpdateReader().add(WatchAlertRulesResponse.FromString(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, DecodeError):
            log.exception("rule_cache_unreadable", path=str(self._path))
            return None

    def write(self, revision: int, rules: Iterable[AlertRule]) -> None:
        """Write the file, whole or not at all; without it the next start waits for the manager."""
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            snapshot = WatchAlertRulesResponse(revision=revision, is_snapshot=True, alert_rules=rules)
            new.write_bytes(snapshot.SerializeToString())
            new.replace(self._path)
        except OSError:
            log.exception("rule_cache_unwritable", path=str(self._path))


class RuleClient:
    """The manager's rules; while the manager is away, the last ones."""

    def __init__(self, cache: RuleCache, on_change: Callable[[RuleSet], None] = lambda _: None) -> None:
        self._cache = cache
        self._on_change = on_change
        self._loaded = asyncio.Event()
        self._current: RuleSet | None = None
        self._messages: Mapping[str, AlertRule] = {}
        # Where to resume the manager's stream; empty while the rules are those of the cache.
        self._resume_token = ""

    @property
    def current(self) -> RuleSet | None:
        return self._current

    async def loaded(self) -> RuleSet:
        await self._loaded.wait()
        if self._current is None:
            raise RuntimeError("rules are loaded, but there are none")
        return self._current

    async def load_cache(self) -> None:
        """Load the rules of the cache, if there are any."""
        update = await asyncio.to_thread(self._cache.read)
        if update is not None:
            await self._apply(update, "cache")

    async def apply(self, update: RuleUpdate) -> None:
        """Apply an update of the manager, and write the cache."""
        await self._apply(update, "manager")
        self._resume_token = update.resume_token
        await asyncio.to_thread(self._cache.write, update.revision, self._messages.values())

    async def watch(
        self, mesh: grpc.aio.Channel, manager: Dependency, backoff: Backoff = Backoff(max_delay=timedelta(seconds=2))
    ) -> None:
        """Apply the manager's updates for ever; those that come while others are applied as one."""

        async def turn() -> None:
            reader, pending = UpdateReader(), PendingUpdate()
            try:
                async with background(
                    self._apply_each(pending), name="apply rules", stop=pending.close, stop_timeout=_APPLY_TIMEOUT
                ):
                    async for page in _pages(mesh, self._resume_token):
                        manager.up()
                        loop.mark_working()
                        if (update := reader.add(page)) is not None:
                            pending.add(update)
            except grpc.aio.AioRpcError as error:
                manager.down(error.code().name)
                raise RulesUnavailable("the manager does not answer") from error
            except TimeoutError as error:
                manager.down("no heartbeat")
                raise RulesUnavailable("the manager does not answer") from error

        loop = Loop(turn, name="watch rules", every=backoff.first_delay, backoff=backoff)
        await loop.run()

    async def _apply_each(self, pending: PendingUpdate) -> None:
        while (update := await pending.take()) is not None:
            await self.apply(update)

    async def _apply(self, update: RuleUpdate, source: str) -> None:
        kept = {} if update.is_snapshot else self._messages
        messages = {rule_id: rule for rule_id, rule in kept.items() if rule_id not in update.removed}
        messages |= update.rules
        # Compiling many rules takes long enough to do it beside the event loop.
        rules = await asyncio.to_thread(_compile, update, self._messages, self._current)
        for rule_id in update.rules.keys() & rules.refused.keys():
            log.error(
                "rule_refused",
                rule_id=rule_id,
                reason=ProblemReason.COMPILE_FAILED.value,
                problem=str(rules.refused[rule_id]),
            )
        log.info("rules_loaded", revision=rules.revision, rules=len(rules.rules), source=source)
        self._messages, self._current = messages, rules
        self._loaded.set()
        self._on_change(rules)


class RuleReportClient:
    """Sends reports to the manager."""

    def __init__(self, mesh: grpc.aio.Channel, instance: str) -> None:
        self._stub = RuleStatisticsServiceStub(mesh)
        self._instance = instance

    async def send(self, report: RuleReport) -> None:
        request = ReportRuleStatisticsRequest(
            request_id=report.id,
            instance=self._instance,
            added={rule_id: _statistics_message(counts) for rule_id, counts in report.added.items()},
            problems={rule_id: _problem_message(problem) for rule_id, problem in report.problems.items()},
        )
        try:
            await self._stub.ReportRuleStatistics(request, timeout=_REPORT_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise RulesUnavailable("the manager does not take reports") from error


def _statistics_message(counts: RuleCounts) -> RuleStatistics:
    return RuleStatistics(
        matched_event_count=counts.matched,
        late_event_count=counts.late,
        beyond_limit_event_count=counts.beyond_limit,
        fired_alert_count=counts.fired,
        evaluate_time=timestamp_of(counts.evaluate_time),
    )


def _problem_message(problem: SetAsideRule) -> RuleProblemMessage:
    return RuleProblemMessage(
        reason=RuleProblemMessage.Reason.Value(problem.reason.value),
        description=problem.description,
        set_aside_time=timestamp_of(problem.since),
        retry_time=timestamp_of(problem.retry_at),
    )


async def _pages(mesh: grpc.aio.Channel, resume_token: str) -> AsyncIterator[WatchAlertRulesResponse]:
    # Without a token all rules: the same revision means other rules after the database was created anew.
    request = WatchAlertRulesRequest(accepts_pages=True, resume_token=resume_token)
    call = AlertRuleServiceStub(mesh).WatchAlertRules(request)
    try:
        while isinstance(
            page := await asyncio.wait_for(call.read(), _HEARTBEAT_TIMEOUT_SECONDS), WatchAlertRulesResponse
        ):
            yield page
    finally:
        call.cancel()


def _compile(update: RuleUpdate, messages: Mapping[str, AlertRule], before: RuleSet | None) -> RuleSet:
    """Return the rules after an update; a rule that has not changed is not compiled again."""
    compiled = before.rules if before else {}
    rules: list[Rule] = []
    refused: dict[str, Exception] = {}
    for message in update.rules.values():
        try:
            is_unchanged = message.id in compiled and messages.get(message.id) == message
            rules.append(compiled[message.id].rule if is_unchanged else _rule_of(message))
        except Exception as error:  # noqa: BLE001  (one rule that cannot be read must not stop the others)
            refused[message.id] = error
    changes = RuleSet.of(update.revision, rules, before)
    changes = replace(changes, refused={**changes.refused, **refused})
    after = changes if update.is_snapshot or before is None else before.with_changes(changes, update.removed)
    # Compiled here, so that the first fetch does not wait for it.
    _ = after.plan
    return after


def _rule_of(message: AlertRule) -> Rule:
    # The manager sends enabled rules only.
    return complete(replace(read_alert_rule(message), enabled=True), is_stored=True)
