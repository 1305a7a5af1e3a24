"""The manager's tables in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.domain.trace_context import TraceHeaders, trace_id_of, traceparent_of
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.alert_changes import AlertChange
from services.manager.core.alert_lifecycle import EpisodeHistory, Fired
from services.manager.core.catalog import StoredService
from services.manager.core.incident import IncidentNotification
from services.manager.core.on_call_records import OnCallEdit, OnCallSnapshot, snapshot_after
from services.manager.core.routing_tree import StoredTree
from services.manager.core.rule import RuleEdit, RuleStatistics, StoredRule
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.rule_problems import ProblemChanges, ReportedProblem, RuleHistoryEntry, RuleHistoryKind
from services.manager.core.service_changes import ServiceChange
from services.manager.core.silence import Silence, SilenceState
from services.manager.core.transitions import EpisodeKey, ReceivedTransition, TransitionContext
from services.manager.ports.incidents import TracedAlert
from services.manager.ports.tables import NameTakenError, OpenAlertExistsError
from tests.fakes.access import AccessRows
from tests.fakes.incidents import IncidentRows
from tests.fakes.learned_edges import LearnedRows
from tests.fakes.requests import MemoryRequests


@dataclass
class Tables:
    """All rows."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    history: dict[str, AlertHistoryEntry] = field(default_factory=dict)
    transitions: dict[tuple[str, str], ReceivedTransition] = field(default_factory=dict)
    # Of the last change of each alert.
    headers: dict[str, TraceHeaders] = field(default_factory=dict)
    outbox: list[tuple[IncidentNotification, TracedAlert]] = field(default_factory=list)
    rules: dict[str, StoredRule] = field(default_factory=dict)
    rule_statistics: dict[str, RuleStatistics] = field(default_factory=dict)
    # By rule and instance, with the time of the report.
    rule_problems: dict[tuple[str, str], tuple[ReportedProblem, datetime]] = field(default_factory=dict)
    # What happened to each rule, the oldest first.
    rule_entries: dict[str, list[RuleHistoryEntry]] = field(default_factory=dict)
    rule_history: list[tuple[int, RuleEdit]] = field(default_factory=list)
    rule_revisions: dict[int, StoredRule] = field(default_factory=dict)
    requests: MemoryRequests = field(default_factory=MemoryRequests)
    changes: dict[str, ServiceChange] = field(default_factory=dict)
    services: dict[str, StoredService] = field(default_factory=dict)
    catalog_revision: int = 0
    catalog_deletion: int = 0
    silences: dict[str, tuple[Silence, int]] = field(default_factory=dict)
    silence_revision: int = 0
    routing: dict[int, StoredTree] = field(default_factory=dict)
    on_call: OnCallSnapshot = field(default_factory=lambda: OnCallSnapshot(epoch="memory"))
    rule_endings: dict[int, RuleEnding] = field(default_factory=dict)
    learned: LearnedRows = field(default_factory=LearnedRows)
    incidents: IncidentRows = field(default_factory=IncidentRows)
    seeds: set[str] = field(default_factory=set)
    deleted_rules: dict[str, int] = field(default_factory=dict)
    access: AccessRows = field(default_factory=AccessRows)
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
        self._tables.rule_revisions[stored.rule.revision] = stored
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

    async def save(self, changes: Sequence[tuple[AlertChange, TraceHeaders]], *, is_correlated: bool = False) -> None:
        for change, headers in changes:
            self._tables.alerts[change.alert.id] = change.alert
            if is_correlated:
                self._tables.incidents.seen_versions[change.alert.id] = change.alert.version
            self._tables.headers[change.alert.id] = headers
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

    async def count(self, limit: int) -> int:
        return min(len(self._tables.changes), limit)


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


class MemoryRouting:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def lock(self) -> StoredTree | None:
        return await self.get(max(self._tables.routing, default=0))

    async def get(self, version: int) -> StoredTree | None:
        return self._tables.routing.get(version)

    async def insert(self, stored: StoredTree) -> None:
        self._tables.routing[stored.version] = stored
        self._tables.routing.pop(stored.version - 1000, None)


class MemoryOnCall:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def lock(self) -> int:
        return self._tables.on_call.revision + 1

    async def load(self) -> OnCallSnapshot:
        return self._tables.on_call

    async def save(self, edit: OnCallEdit, revision: int) -> None:
        self._tables.on_call = snapshot_after(self._tables.on_call, edit, revision)


class MemoryRuleEndings:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, ending: RuleEnding, now: datetime) -> None:  # noqa: ARG002  (the port's)
        self._tables.rule_endings[ending.revision] = ending

    async def next_for_update(self) -> RuleEnding | None:
        return min(self._tables.rule_endings.values(), key=lambda ending: ending.revision, default=None)

    async def load(self, rule_ids: Collection[str]) -> Mapping[str, RuleEnding]:
        endings = sorted(self._tables.rule_endings.values(), key=lambda ending: ending.revision)
        return {ending.rule_id: ending for ending in endings if ending.rule_id in rule_ids}

    async def delete(self, ending: RuleEnding) -> None:
        del self._tables.rule_endings[ending.revision]
