"""The manager's tables, in a transaction."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from services.domain.trace_context import TraceHeaders
from services.manager.core.alert import Alert, AlertHistoryEntry
from services.manager.core.alert_changes import AlertChange
from services.manager.core.catalog import StoredService
from services.manager.core.learned_edges import LearnedChanges, LearnedEdge, ServicePair, TraceSighting
from services.manager.core.on_call_records import OnCallEdit, OnCallSnapshot
from services.manager.core.routing_tree import StoredTree
from services.manager.core.rule import RuleEdit, RuleStatistics, StoredRule
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.rule_problems import ProblemChanges, ReportedProblem
from services.manager.core.service_changes import ServiceChange
from services.manager.core.silence import Silence
from services.manager.core.transitions import ReceivedTransition, TransitionContext
from services.manager.ports.access import ApiKeyTable, AuditTable
from services.manager.ports.incidents import IncidentTable, NotificationTable


class NameTakenError(Exception):
    """Another rule has this name."""


class OpenAlertExistsError(Exception):
    """An alert that was expected to be new is open already; load it and decide again."""


class RequestTable(Protocol):
    """The calls of the last day that had a request id."""

    async def insert(self, request_id: str, digest: str, *, now: datetime) -> tuple[str, bytes] | None:
        """Insert a call and return None when it is the first one with its id, else the first one's digest and response.

        Waits for a concurrent call with the same id.
        """

    async def update_response(self, request_id: str, response: bytes) -> None:
        """Write the response to the first call."""


class RuleTable(Protocol):
    """The rules; a transaction that has taken a revision is alone with them until it ends."""

    async def take_revision(self) -> int:
        """Return the revision of the change to be made; watchers are notified of it at the commit."""

    async def count(self) -> int:
        """Return the number of rules; exact after `take_revision`."""

    async def get_for_update(self, rule_id: str) -> StoredRule | None:
        """Return a rule, which no other transaction changes until this one ends."""

    async def upsert(self, stored: StoredRule, edit: RuleEdit) -> None:
        """Write a rule and the entry of its history. Raises NameTakenError."""

    async def delete(self, stored: StoredRule, revision: int, now: datetime) -> None:
        """Delete a rule and write the entry of its history."""


class RuleStatisticsTable(Protocol):
    """What the evaluators counted of each rule."""

    async def add(self, added: Mapping[str, RuleStatistics]) -> None:
        """Add to the counts of these rules, of those that exist; the later `evaluate_time` stays."""


class RuleProblemTable(Protocol):
    """Which rules evaluators do not evaluate, as each instance reported last, and the history of that."""

    async def load_for_update(self, instance: str) -> Mapping[str, ReportedProblem]:
        """Return what an instance reported, by rule id; no other transaction changes it until this one ends."""

    async def save(self, instance: str, changes: ProblemChanges, now: datetime) -> None:
        """Write what an instance reports now, of those rules that exist; the oldest history of a rule is dropped."""


class SeedTable(Protocol):
    """The sets of rules that were created once."""

    async def insert(self, name: str) -> bool:
        """Insert the name of a set; return whether this database did not have it."""


class TransitionTable(Protocol):
    """The transitions that were processed."""

    async def insert(self, transitions: Sequence[ReceivedTransition]) -> set[tuple[str, str]]:
        """Insert transitions as processed; return the keys of those that were processed before."""


class AlertTable(Protocol):
    """The alerts and their histories."""

    async def load_for_update(
        self, transitions: Sequence[ReceivedTransition], *, expected_new: Collection[str]
    ) -> TransitionContext:
        """Return what is stored about the transitions' groups, which no other transaction changes until this one ends.

        Open keys in `expected_new` are taken to have no open alert: if that is wrong, `save` raises
        OpenAlertExistsError. The context has no processed keys: the TransitionTable returns them.
        """

    async def save(self, changes: Sequence[tuple[AlertChange, TraceHeaders]], *, is_correlated: bool = False) -> None:
        """Write alerts and history, each with its trace context; watchers are notified at the commit.

        Alerts whose changes are correlated in this transaction are not in `list_seen` of the incidents.
        """

    async def get_for_update(self, alert_id: str) -> Alert | None:
        """Return an alert, which no other transaction changes until this one ends."""

    async def lock_open(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        """Return those of these alerts that are open and that no other transaction works on, likewise."""

    async def list_open_for_update(self, rule_id: str, *, before: int, limit: int) -> Sequence[Alert]:
        """Return some of a rule's open alerts whose last firing has a lower revision than `before`, likewise."""

    async def insert_history(self, entries: Sequence[AlertHistoryEntry]) -> int:
        """Insert entries, each id once; return how many were new. Entries of unknown alerts are left out."""


class CatalogTable(Protocol):
    """The catalog of services."""

    async def lock(self) -> int:
        """Return the revision that a change would have; the transaction is alone with the catalog until it ends."""

    async def count(self) -> int:
        """Return the number of services; exact after `lock`."""

    async def load(self, names: Collection[str]) -> Mapping[str, StoredService]:
        """Return those of these services that are stored."""

    async def upsert(self, services: Sequence[StoredService]) -> None:
        """Write services of one revision, which `lock` returned; the instances are notified at the commit."""

    async def delete(self, name: str, revision: int) -> None:
        """Delete a service, likewise."""


class LearnedEdgeTable(Protocol):
    """What was learned of dependencies."""

    async def lock(self) -> None:
        """Be alone with the learned edges until this transaction ends."""

    async def count(self) -> int:
        """Return the number of learned edges; exact after `lock`."""

    async def load(self, pairs: Collection[ServicePair]) -> Mapping[ServicePair, LearnedEdge]:
        """Return those of these edges that are stored."""

    async def load_all(self) -> Mapping[ServicePair, LearnedEdge]:
        """Return all of them."""

    async def save(self, changes: LearnedChanges) -> None:
        """Write and delete edges after `lock`; the instances are notified at the commit when the graph changes."""


class TraceTable(Protocol):
    """When services first logged in traces that are not counted yet."""

    async def count(self) -> int:
        """Return the number of sightings; of all transactions that count, this one is alone until it ends."""

    async def upsert(self, sightings: Sequence[TraceSighting], now: datetime) -> None:
        """Write sightings that are reported now; of one service in one trace the earliest time stays."""

    async def take_closed(self, before: datetime, limit: int) -> Sequence[TraceSighting]:
        """Delete and return the traces of up to so many sightings, the oldest, that were reported before a time."""


class ChangeTable(Protocol):
    """The changes of services."""

    async def insert(self, change: ServiceChange) -> None:
        """Insert a change."""

    async def count(self, limit: int) -> int:
        """Return the number of changes, up to the limit; of all that count, this transaction is alone until it ends."""


class SilenceTable(Protocol):
    """The silences; a transaction that has taken a revision is alone with them until it ends."""

    async def take_revision(self) -> int:
        """Return the revision of the change to be made; the instances are notified of it at the commit."""

    async def count(self, now: datetime) -> int:
        """Return the number of silences that have not expired; exact after `take_revision`."""

    async def get_for_update(self, silence_id: str) -> Silence | None:
        """Return a silence, which no other transaction changes until this one ends."""

    async def upsert(self, silence: Silence, revision: int) -> None:
        """Write a silence. Of a stored one only `expire_time` changes."""

    async def expire_resolved(self, now: datetime) -> int:
        """End the silences of named alerts that are all resolved; return how many."""


class RoutingTable(Protocol):
    """The versions of the routing tree."""

    async def lock(self) -> StoredTree | None:
        """Return the newest version, None while none was ever set; no other is written until this transaction ends."""

    async def get(self, version: int) -> StoredTree | None:
        """Return a version, if it is kept."""

    async def insert(self, stored: StoredTree) -> None:
        """Write a version, the next one after what `lock` returned; the instances are notified at the commit.

        The newest thousand are kept.
        """


class OnCallTable(Protocol):
    """People, schedules with their overrides, and escalation policies."""

    async def lock(self) -> int:
        """Return the revision that a change would have; the transaction is alone with them until it ends."""

    async def load(self) -> OnCallSnapshot:
        """Return all of them."""

    async def save(self, edit: OnCallEdit, revision: int) -> None:
        """Write an edit of one revision, which `lock` returned; the instances are notified at the commit."""


class RuleEndingTable(Protocol):
    """The rules whose alerts have to be resolved, the oldest ending first."""

    async def insert(self, ending: RuleEnding, now: datetime) -> None:
        """Insert an ending; the instances are notified at the commit."""

    async def next_for_update(self) -> RuleEnding | None:
        """Return an ending that no other transaction works on until this one ends."""

    async def load(self, rule_ids: Collection[str]) -> Mapping[str, RuleEnding]:
        """Return the newest ending of each of these rules that has one."""

    async def delete(self, ending: RuleEnding) -> None:
        """Delete an ending whose alerts are all resolved."""


class Transaction(Protocol):
    """The tables, in one transaction."""

    @property
    def requests(self) -> RequestTable:
        """Return the calls that had a request id."""

    @property
    def rules(self) -> RuleTable:
        """Return the rules."""

    @property
    def rule_statistics(self) -> RuleStatisticsTable:
        """Return what was counted of the rules."""

    @property
    def rule_problems(self) -> RuleProblemTable:
        """Return which rules evaluators do not evaluate."""

    @property
    def seeds(self) -> SeedTable:
        """Return the sets of rules that were created once."""

    @property
    def transitions(self) -> TransitionTable:
        """Return the processed transitions."""

    @property
    def alerts(self) -> AlertTable:
        """Return the alerts."""

    @property
    def catalog(self) -> CatalogTable:
        """Return the catalog of services."""

    @property
    def learned_edges(self) -> LearnedEdgeTable:
        """Return what was learned of dependencies."""

    @property
    def traces(self) -> TraceTable:
        """Return the traces that are not counted yet."""

    @property
    def changes(self) -> ChangeTable:
        """Return the changes of services."""

    @property
    def silences(self) -> SilenceTable:
        """Return the silences."""

    @property
    def api_keys(self) -> ApiKeyTable:
        """Return the API keys."""

    @property
    def audit(self) -> AuditTable:
        """Return the audit log."""

    @property
    def routing(self) -> RoutingTable:
        """Return the versions of the routing tree."""

    @property
    def on_call(self) -> OnCallTable:
        """Return people, schedules and escalation policies."""

    @property
    def rule_endings(self) -> RuleEndingTable:
        """Return the ended rules."""

    @property
    def incidents(self) -> IncidentTable:
        """Return the incidents."""

    @property
    def notifications(self) -> NotificationTable:
        """Return what receivers are notified of."""


class Store(Protocol):
    """Where rules and alerts are stored."""

    def transaction(self, *, commit: bool = True) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction. Raises Failure when the store is away.

        At the end of the block it is committed, or rolled back: after an exception, or without `commit`.
        """
