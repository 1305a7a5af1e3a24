"""The manager's ports in memory."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.chassis.failures import StoreUnavailable
from services.domain.trace_context import TraceHeaders, trace_id_of, traceparent_of
from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry, NotifiedState
from services.manager.core.alert_changes import AlertChange
from services.manager.core.alert_lifecycle import AlertState, EpisodeHistory, Fired
from services.manager.core.catalog import Catalog, CatalogChanges, StoredService
from services.manager.core.rule import RuleChanges, RuleEdit, RuleSnapshot, RuleStatistics, StoredRule
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.rule_problems import ProblemChanges, ReportedProblem, RuleHistoryEntry, RuleHistoryKind
from services.manager.core.service_changes import ChangeFilter, ServiceChange
from services.manager.core.silence import Silence, SilenceState
from services.manager.core.silence_index import MatchedAlert
from services.manager.core.transitions import EpisodeKey, ReceivedTransition, TransitionContext
from services.manager.ports.readers import Page, SilenceChanges
from services.manager.ports.tables import NameTakenError, OpenAlertExistsError
from tests.fakes.incidents import IncidentRows, MemoryIncidents
from tests.fakes.requests import MemoryRequests


@dataclass
class Tables:
    """All rows."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    history: dict[str, AlertHistoryEntry] = field(default_factory=dict)
    transitions: dict[tuple[str, str], ReceivedTransition] = field(default_factory=dict)
    outbox: list[tuple[Alert, NotifiedState, TraceHeaders]] = field(default_factory=list)
    rules: dict[str, StoredRule] = field(default_factory=dict)
    rule_statistics: dict[str, RuleStatistics] = field(default_factory=dict)
    # By rule and instance, with the time of the report.
    rule_problems: dict[tuple[str, str], tuple[ReportedProblem, datetime]] = field(default_factory=dict)
    # What happened to each rule, the oldest first.
    rule_entries: dict[str, list[RuleHistoryEntry]] = field(default_factory=dict)
    rule_history: list[tuple[int, RuleEdit]] = field(default_factory=list)
    requests: MemoryRequests = field(default_factory=MemoryRequests)
    changes: dict[str, ServiceChange] = field(default_factory=dict)
    services: dict[str, StoredService] = field(default_factory=dict)
    catalog_revision: int = 0
    catalog_deletion: int = 0
    silences: dict[str, tuple[Silence, int]] = field(default_factory=dict)
    silence_revision: int = 0
    rule_endings: dict[int, RuleEnding] = field(default_factory=dict)
    incidents: IncidentRows = field(default_factory=IncidentRows)
    seeds: set[str] = field(default_factory=set)
    deleted_rules: dict[str, int] = field(default_factory=dict)
    epoch: str = "memory"
    revision: int = 0


class MemoryRules:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def take_revision(self) -> int:
        self._tables.revision += 1
        return self._tables.revision

    async def count(self) -> int:
        return len(self._tables.rules)

    async def get_for_update(self, rule_id: str) -> StoredRule | None:
        return self._tables.rules.get(rule_id)

    async def upsert(self, stored: StoredRule, edit: RuleEdit) -> None:
        others = (each.rule for each in self._tables.rules.values() if each.rule.id != stored.rule.id)
        if any(rule.name == stored.rule.name for rule in others):
            raise NameTakenError(stored.rule.name)
        self._tables.rules[stored.rule.id] = stored
        self._tables.rule_history.append((stored.rule.revision, edit))
        entry = RuleHistoryEntry(kind=RuleHistoryKind(edit.value), create_time=stored.update_time)
        self._tables.rule_entries.setdefault(stored.rule.id, []).append(entry)

    async def delete(self, stored: StoredRule, revision: int, now: datetime) -> None:  # noqa: ARG002  (the port's)
        del self._tables.rules[stored.rule.id]
        self._tables.deleted_rules[stored.rule.id] = revision
        self._tables.rule_statistics.pop(stored.rule.id, None)
        self._tables.rule_entries.pop(stored.rule.id, None)
        problems = self._tables.rule_problems
        self._tables.rule_problems = {key: each for key, each in problems.items() if key[0] != stored.rule.id}
        self._tables.rule_history.append((revision, RuleEdit.DELETED))


class MemoryRuleStatistics:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, added: Mapping[str, RuleStatistics]) -> None:
        for rule_id in added.keys() & self._tables.rules.keys():
            before, more = self._tables.rule_statistics.get(rule_id, RuleStatistics()), added[rule_id]
            times = [time for time in (before.evaluate_time, more.evaluate_time) if time is not None]
            self._tables.rule_statistics[rule_id] = RuleStatistics(
                matched=before.matched + more.matched,
                late=before.late + more.late,
                beyond_limit=before.beyond_limit + more.beyond_limit,
                fired=before.fired + more.fired,
                evaluate_time=max(times, default=None),
            )


class MemoryRuleProblems:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def load_for_update(self, instance: str) -> Mapping[str, ReportedProblem]:
        problems = self._tables.rule_problems
        return {rule_id: each for (rule_id, reporter), (each, _) in problems.items() if reporter == instance}

    async def save(self, instance: str, changes: ProblemChanges, now: datetime) -> None:
        tables = self._tables
        for rule_id, problem in changes.current.items():
            if rule_id in tables.rules:
                tables.rule_problems[rule_id, instance] = problem, now
        for rule_id in changes.over:
            tables.rule_problems.pop((rule_id, instance), None)
        for rule_id, entry in changes.history.items():
            if rule_id in tables.rules:
                tables.rule_entries.setdefault(rule_id, []).append(entry)


class MemorySeeds:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, name: str) -> bool:
        is_new = name not in self._tables.seeds
        self._tables.seeds.add(name)
        return is_new


class MemoryTransitions:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, transitions: Sequence[ReceivedTransition]) -> set[tuple[str, str]]:
        processed = {each.key for each in transitions} & set(self._tables.transitions)
        for each in transitions:
            self._tables.transitions.setdefault(each.key, each)
        return processed


class MemoryAlerts:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def load_for_update(
        self, transitions: Sequence[ReceivedTransition], *, expected_new: Collection[str]
    ) -> TransitionContext:
        wanted = {each.open_key for each in transitions} - set(expected_new)
        return TransitionContext(
            open_alerts={
                alert.subject.open_key: alert
                for alert in self._tables.alerts.values()
                if alert.is_open and alert.subject.open_key in wanted
            },
            histories={each.episode_key: self._history(each.episode_key) for each in transitions},
        )

    async def save(self, changes: Sequence[tuple[AlertChange, TraceHeaders]]) -> None:
        for change, headers in changes:
            self._tables.alerts[change.alert.id] = change.alert
            self._tables.outbox += [(change.alert, notification, headers) for notification in change.notifications]
            trace_id = trace_id_of(traceparent_of(headers))
            await self.insert_history([replace(entry, trace_id=trace_id) for entry in change.history])
        open_keys = [alert.subject.open_key for alert in self._tables.alerts.values() if alert.is_open]
        if len(open_keys) != len(set(open_keys)):
            raise OpenAlertExistsError

    async def get_for_update(self, alert_id: str) -> Alert | None:
        return self._tables.alerts.get(alert_id)

    async def lock_open(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        return [alert for alert in self._tables.alerts.values() if alert.is_open and alert.id in alert_ids]

    async def list_open_for_update(self, rule_id: str, *, before: int, limit: int) -> Sequence[Alert]:
        alerts = [
            alert
            for alert in self._tables.alerts.values()
            if alert.subject.rule_id == rule_id and alert.is_open and alert.status.last_firing.rule_revision < before
        ]
        return sorted(alerts, key=lambda alert: alert.subject.open_key)[:limit]

    async def insert_history(self, entries: Sequence[AlertHistoryEntry]) -> int:
        new = [
            entry for entry in entries if entry.alert_id in self._tables.alerts and entry.id not in self._tables.history
        ]
        self._tables.history.update({entry.id: entry for entry in new})
        return len({entry.id for entry in new})

    def _history(self, episode: EpisodeKey) -> EpisodeHistory:
        observations = [each.observation for each in self._tables.transitions.values() if each.episode_key == episode]
        evaluations = sorted(
            ((isinstance(each, Fired), each.evaluation) for each in observations),
            key=lambda each: (each[1].selection_revision, each[1].rule_revision, each[1].time),
        )
        fired = [evaluation for is_firing, evaluation in evaluations if is_firing]
        ended = [evaluation for is_firing, evaluation in evaluations if not is_firing]
        return EpisodeHistory(fired=fired[-1] if fired else None, ended=ended[-1] if ended else None)


class MemoryCatalog:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def lock(self) -> int:
        return self._tables.catalog_revision + 1

    async def count(self) -> int:
        return len(self._tables.services)

    async def load(self, names: Collection[str]) -> Mapping[str, StoredService]:
        return {name: stored for name, stored in self._tables.services.items() if name in names}

    async def upsert(self, services: Sequence[StoredService]) -> None:
        for stored in services:
            self._tables.services[stored.entry.name] = stored
            self._tables.catalog_revision = stored.revision

    async def delete(self, name: str, revision: int) -> None:
        del self._tables.services[name]
        self._tables.catalog_revision = self._tables.catalog_deletion = revision


class MemoryChanges:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, change: ServiceChange) -> None:
        self._tables.changes[change.id] = change


class MemorySilences:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def take_revision(self) -> int:
        self._tables.silence_revision += 1
        return self._tables.silence_revision

    async def count(self, now: datetime) -> int:
        return sum(each.state(now) is not SilenceState.EXPIRED for each, _ in self._tables.silences.values())

    async def get_for_update(self, silence_id: str) -> Silence | None:
        stored = self._tables.silences.get(silence_id)
        return stored[0] if stored else None

    async def upsert(self, silence: Silence, revision: int) -> None:
        before = self._tables.silences.get(silence.id, (silence, 0))[0]
        self._tables.silences[silence.id] = replace(before, expire_time=silence.expire_time), revision

    async def expire_resolved(self, now: datetime) -> int:
        open_ids = {alert.id for alert in self._tables.alerts.values() if alert.is_open}
        ended = [
            each
            for each, _ in self._tables.silences.values()
            if each.alert_ids and each.state(now) is not SilenceState.EXPIRED and open_ids.isdisjoint(each.alert_ids)
        ]
        for each in ended:
            await self.upsert(replace(each, expire_time=now), await self.take_revision())
        return len(ended)


class MemoryRuleEndings:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, ending: RuleEnding, now: datetime) -> None:  # noqa: ARG002  (the port's)
        self._tables.rule_endings[ending.revision] = ending

    async def next_for_update(self) -> RuleEnding | None:
        return min(self._tables.rule_endings.values(), key=lambda ending: ending.revision, default=None)

    async def delete(self, ending: RuleEnding) -> None:
        del self._tables.rule_endings[ending.revision]


class MemoryTransaction:
    def __init__(self, tables: Tables) -> None:
        self.requests = tables.requests
        self.rules = MemoryRules(tables)
        self.rule_statistics = MemoryRuleStatistics(tables)
        self.rule_problems = MemoryRuleProblems(tables)
        self.seeds = MemorySeeds(tables)
        self.transitions = MemoryTransitions(tables)
        self.alerts = MemoryAlerts(tables)
        self.catalog = MemoryCatalog(tables)
        self.changes = MemoryChanges(tables)
        self.silences = MemorySilences(tables)
        self.rule_endings = MemoryRuleEndings(tables)
        self.incidents = MemoryIncidents(tables.incidents, tables.alerts)


class MemoryStore:
    """Transactions one after the other; `fail_commits` of them are lost at the last moment."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.fail_commits = 0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, *, commit: bool = True) -> AsyncIterator[MemoryTransaction]:
        async with self._lock:
            tables = copy.deepcopy(self.tables)
            yield MemoryTransaction(tables)
            if not commit:
                return
            if self.fail_commits:
                self.fail_commits -= 1
                raise StoreUnavailable("the database does not answer")
            self.tables = tables


class MemoryRuleReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self) -> str:
        return f"{self._store.tables.epoch}.{self._store.tables.revision}"

    async def get(self, rule_id: str) -> StoredRule | None:
        return self._store.tables.rules.get(rule_id)

    async def list_page(self, page: Page, *, enabled: bool | None = None) -> Sequence[StoredRule]:
        rules = [stored for stored in self._by_name() if enabled in {None, stored.rule.enabled}]
        after = page.after[0].encode() if page.after else None
        return [stored for stored in rules if after is None or stored.rule.name.encode() > after][: page.size + 1]

    async def snapshot(self) -> RuleSnapshot:
        rules = tuple(stored for stored in self._by_name() if stored.rule.enabled)
        revision = self._store.tables.revision
        return RuleSnapshot(revision=revision, epoch=self._store.tables.epoch, rules=rules, since=revision)

    async def changes_since(self, revision: int) -> RuleChanges:
        tables = self._store.tables
        changed = [stored for stored in self._by_name() if stored.rule.revision > revision]
        deleted = [rule_id for rule_id, at in tables.deleted_rules.items() if at > revision]
        return RuleChanges(
            revision=tables.revision,
            epoch=tables.epoch,
            rules=tuple(stored for stored in changed if stored.rule.enabled),
            removed=(*deleted, *(stored.rule.id for stored in changed if not stored.rule.enabled)),
        )

    def _by_name(self) -> list[StoredRule]:
        return sorted(self._store.tables.rules.values(), key=lambda stored: stored.rule.name.encode())


class MemoryRuleStatisticsReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def get(self, rule_id: str) -> RuleStatistics | None:
        tables = self._store.tables
        return tables.rule_statistics.get(rule_id, RuleStatistics()) if rule_id in tables.rules else None


class MemoryCatalogReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self) -> str:
        return f"{self._store.tables.epoch}.{self._store.tables.catalog_revision}"

    async def snapshot(self) -> CatalogChanges:
        return self._written_after(-1)

    async def changes_since(self, revision: int) -> CatalogChanges | None:
        return None if self._store.tables.catalog_deletion > revision else self._written_after(revision)

    def _written_after(self, revision: int) -> CatalogChanges:
        tables = self._store.tables
        services = tuple(stored for stored in tables.services.values() if stored.revision > revision)
        return CatalogChanges(revision=tables.catalog_revision, epoch=tables.epoch, services=services)


class MemoryCatalogFeed:
    """Reads the whole catalog each time."""

    def __init__(self, store: MemoryStore) -> None:
        self._reader = MemoryCatalogReader(store)
        self.current = Catalog()

    async def refresh(self) -> None:
        self.current = Catalog.of(await self._reader.snapshot())


class MemoryRuleProblemReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def list_current(
        self, rule_ids: Sequence[str], reported_after: datetime
    ) -> Mapping[str, Sequence[ReportedProblem]]:
        problems: dict[str, list[ReportedProblem]] = {}
        for (rule_id, _), (problem, reported) in sorted(self._store.tables.rule_problems.items()):
            if rule_id in rule_ids and reported > reported_after:
                problems.setdefault(rule_id, []).append(problem)
        return problems

    async def history(self, rule_id: str, limit: int) -> Sequence[RuleHistoryEntry]:
        newest_first = self._store.tables.rule_entries.get(rule_id, [])[::-1]
        return sorted(newest_first, key=lambda entry: entry.create_time, reverse=True)[:limit]


class MemoryChangeReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def list_page(self, wanted: ChangeFilter, page: Page) -> Sequence[ServiceChange]:
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        rest = [change for change in self._newest() if after is None or (change.time, change.id) < after]
        return [change for change in rest if wanted.selects(change)][: page.size + 1]

    async def list_between(
        self, services: Collection[str], after: datetime, until: datetime
    ) -> Sequence[ServiceChange]:
        return [each for each in self._newest() if each.service in services and after <= each.time <= until]

    def _newest(self) -> list[ServiceChange]:
        return sorted(self._store.tables.changes.values(), key=lambda each: (each.time, each.id), reverse=True)


class MemoryAlertReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self, alert_id: str) -> str | None:
        stored = await self.get(alert_id)
        return f"{stored[0].version}.{len(stored[1])}" if stored else None

    async def get(self, alert_id: str) -> tuple[Alert, Sequence[AlertHistoryEntry]] | None:
        alert = self._store.tables.alerts.get(alert_id)
        if alert is None:
            return None
        return alert, [entry for entry in self._store.tables.history.values() if entry.alert_id == alert_id][-1000:]

    async def list_page(self, wanted: AlertFilter, page: Page) -> Sequence[Alert]:
        alerts = sorted(self._store.tables.alerts.values(), key=lambda alert: (alert.fire_time, alert.id), reverse=True)
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        rest = [alert for alert in alerts if after is None or (alert.fire_time, alert.id) < after]
        return [alert for alert in rest if wanted.selects(alert)][: page.size + 1]

    async def list_open(self) -> Sequence[Alert]:
        alerts = [alert for alert in self._store.tables.alerts.values() if alert.is_open]
        return sorted(alerts, key=lambda alert: (alert.fire_time, alert.id))

    async def list_by_id(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        alerts = [alert for alert in self._store.tables.alerts.values() if alert.id in alert_ids]
        return sorted(alerts, key=lambda alert: (alert.update_time, alert.id))


class MemoryMatchedAlertReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def list_open(self) -> Sequence[MatchedAlert]:
        return [_matched(alert) for alert in await MemoryAlertReader(self._store).list_open()]

    async def list_withheld(self) -> Sequence[MatchedAlert]:
        return [each for each in await self.list_open() if each.silenced_by or each.is_due]

    async def list_recent(self, since: datetime, limit: int) -> Sequence[MatchedAlert]:
        alerts = await MemoryAlertReader(self._store).list_page(AlertFilter(fired_after=since), Page(size=limit - 1))
        return [_matched(alert) for alert in alerts]


def _matched(alert: Alert) -> MatchedAlert:
    is_due = not alert.is_notified and alert.status.state is AlertState.FIRING
    return MatchedAlert(id=alert.id, labels=alert.subject.labels, silenced_by=alert.silenced_by, is_due=is_due)


class MemorySilenceReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self) -> str:
        return f"{self._store.tables.epoch}.{self._store.tables.silence_revision}"

    async def changes_since(self, version: str, now: datetime) -> SilenceChanges:
        epoch, _, number = version.rpartition(".")
        is_known = epoch == self._store.tables.epoch and int(number) <= self._store.tables.silence_revision
        return SilenceChanges(
            version=await self.version(),
            is_whole=not is_known,
            silences=tuple(
                silence
                for silence, revision in self._store.tables.silences.values()
                if (revision > int(number) if is_known else silence.state(now) is not SilenceState.EXPIRED)
            ),
        )

    async def get(self, silence_id: str) -> Silence | None:
        return await MemorySilences(self._store.tables).get_for_update(silence_id)

    async def list_page(self, page: Page, *, id_prefix: str, expired: bool | None, now: datetime) -> Sequence[Silence]:
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        silences = sorted(
            (silence for silence, _ in self._store.tables.silences.values()),
            key=lambda silence: (silence.create_time, silence.id),
            reverse=True,
        )
        return [
            silence
            for silence in silences
            if silence.id.startswith(id_prefix)
            and expired in {None, silence.state(now) is SilenceState.EXPIRED}
            and (after is None or (silence.create_time, silence.id) < after)
        ][: page.size + 1]


class MemoryDedupCache:
    """A cache that can be away, or made to lie by putting keys in."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.is_away = False

    async def add(self, keys: Sequence[str]) -> frozenset[str]:
        if self.is_away:
            return frozenset()
        new = frozenset(keys) - self.keys
        self.keys |= new
        return new

    async def remove(self, keys: Sequence[str]) -> None:
        if not self.is_away:
            self.keys -= set(keys)


class MemoryResponseCache:
    """Keeps responses for ever, as the port allows."""

    def __init__(self) -> None:
        self.responses: dict[str, bytes] = {}

    async def get(self, key: str, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        if key not in self.responses:
            self.responses[key] = await compute()
        return self.responses[key]
