"""What the manager needs from the world."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.domain.trace_context import TraceHeaders
from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry
from services.manager.core.alert_changes import AlertChange
from services.manager.core.catalog import Catalog, CatalogChanges, StoredService
from services.manager.core.incident import Incident, IncidentFilter, IncidentHistoryEntry, IncidentSummary
from services.manager.core.incident_changes import IncidentChange
from services.manager.core.rule import RuleChanges, RuleEdit, RuleSnapshot, RuleStatistics, StoredRule
from services.manager.core.rule_edits import RuleEnding
from services.manager.core.rule_problems import ProblemChanges, ReportedProblem, RuleHistoryEntry
from services.manager.core.service_changes import ChangeFilter, ServiceChange
from services.manager.core.silence import Silence
from services.manager.core.silence_index import MatchedAlert, SilenceIndex
from services.manager.core.transitions import ReceivedTransition, TransitionContext


class NameTakenError(Exception):
    """Another rule has this name."""


class OpenAlertExistsError(Exception):
    """An alert that was expected to be new is open already; load it and decide again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How many rows to read, and after which; `after` is that row's key, empty for the first page."""

    size: int = 50
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceChanges:
    """The silences that were written up to a version; all of them where `is_whole`."""

    version: str
    is_whole: bool
    silences: tuple[Silence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """How many rows are stored."""

    rules: int = 0
    enabled_rules: int = 0
    open_alerts: int = 0
    outbox: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionCutoffs:
    """The times before which rows expire."""

    alerts: datetime
    transitions: datetime
    requests: datetime
    changes: datetime
    silences: datetime


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

    async def save(self, changes: Sequence[tuple[AlertChange, TraceHeaders]]) -> None:
        """Write alerts, history and notifications, each with its trace context; watchers are notified at the commit."""

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


class ChangeTable(Protocol):
    """The changes of services."""

    async def insert(self, change: ServiceChange) -> None:
        """Insert a change."""


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


class RuleEndingTable(Protocol):
    """The rules whose alerts have to be resolved, the oldest ending first."""

    async def insert(self, ending: RuleEnding, now: datetime) -> None:
        """Insert an ending; the instances are notified at the commit."""

    async def next_for_update(self) -> RuleEnding | None:
        """Return an ending that no other transaction works on until this one ends."""

    async def delete(self, ending: RuleEnding) -> None:
        """Delete an ending whose alerts are all resolved."""


class IncidentTable(Protocol):
    """The incidents, with their alerts and histories."""

    async def lock(self) -> int:
        """Return the revision of the change to be made, alone with the incidents until this transaction ends."""

    async def list_seen(self, limit: int) -> Sequence[tuple[Alert, bool]]:
        """Return the first alerts that have changed since `mark_seen`, and whether an incident has them already."""

    async def mark_seen(self, alerts: Sequence[Alert]) -> None:
        """Leave these versions of alerts out of `list_seen` from now on."""

    async def list_changed(self, revision: int, *, resolved_after: datetime) -> Sequence[Incident]:
        """Return the incidents that were written after a revision, without those that were resolved before a time."""

    async def load(self, incident_ids: Collection[str]) -> Mapping[str, Incident]:
        """Return those of these incidents that exist."""

    async def save(self, changes: Sequence[IncidentChange], revision: int, *, before: Mapping[str, Incident]) -> None:
        """Write changes; `before` has what is stored of their incidents."""


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
    def changes(self) -> ChangeTable:
        """Return the changes of services."""

    @property
    def silences(self) -> SilenceTable:
        """Return the silences."""

    @property
    def rule_endings(self) -> RuleEndingTable:
        """Return the ended rules."""

    @property
    def incidents(self) -> IncidentTable:
        """Return the incidents."""


class Store(Protocol):
    """Where rules and alerts are stored."""

    def transaction(self, *, commit: bool = True) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction. Raises Failure when the store is away.

        At the end of the block it is committed, or rolled back: after an exception, or without `commit`.
        """


class RuleReader(Protocol):
    """The rules as they are stored."""

    async def version(self) -> str:
        """Return a text that differs after each change of any rule, and between databases; cheap."""

    async def get(self, rule_id: str) -> StoredRule | None:
        """Return one rule."""

    async def list_page(self, page: Page, *, enabled: bool | None = None) -> Sequence[StoredRule]:
        """Return up to one rule more than the page's size, in the order of names after the page's `after` (a name)."""

    async def snapshot(self) -> RuleSnapshot:
        """Return all enabled rules, as of one moment."""

    async def changes_since(self, revision: int) -> RuleChanges:
        """Return what changed in the enabled rules after this revision, as of one moment."""


class RuleStatisticsReader(Protocol):
    """What the evaluators counted, as it is stored."""

    async def get(self, rule_id: str) -> RuleStatistics | None:
        """Return what was counted of a rule; None when there is no such rule."""


class CatalogReader(Protocol):
    """The catalog as it is stored."""

    async def version(self) -> str:
        """Return a text that differs after each change, and between databases; cheap."""

    async def snapshot(self) -> CatalogChanges:
        """Return all services, as of one moment."""

    async def changes_since(self, revision: int) -> CatalogChanges | None:
        """Return what was written after this revision, as of one moment; None when something was deleted since."""


class RuleProblemReader(Protocol):
    """Which rules evaluators do not evaluate, as it is stored."""

    async def list_current(
        self, rule_ids: Sequence[str], reported_after: datetime
    ) -> Mapping[str, Sequence[ReportedProblem]]:
        """Return by rule what was reported after this time, in the order of the instances; only rules with problems."""

    async def history(self, rule_id: str, limit: int) -> Sequence[RuleHistoryEntry]:
        """Return what happened to a rule, its edits included, the newest first."""


class ChangeReader(Protocol):
    """The changes of services as they are stored."""

    async def list_page(self, wanted: ChangeFilter, page: Page) -> Sequence[ServiceChange]:
        """Return up to one change more than the page's size, the newest first, after `after` (ISO time, id)."""

    async def list_between(
        self, services: Collection[str], after: datetime, until: datetime
    ) -> Sequence[ServiceChange]:
        """Return the changes of these services from one time to another, both included, the newest first."""


class AlertReader(Protocol):
    """The alerts as they are stored."""

    async def version(self, alert_id: str) -> str | None:
        """Return a text that differs after each change of an alert or its history; cheap. None: no such alert."""

    async def get(self, alert_id: str) -> tuple[Alert, Sequence[AlertHistoryEntry]] | None:
        """Return an alert and the newest thousand entries of its history, the oldest first, as of one moment."""

    async def list_page(self, wanted: AlertFilter, page: Page) -> Sequence[Alert]:
        """Return up to one alert more than the page's size, the newest first, after `after` (ISO fire time, id)."""

    async def list_open(self) -> Sequence[Alert]:
        """Return all open alerts, the oldest first."""

    async def list_by_id(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        """Return those of these alerts that exist."""


class IncidentReader(Protocol):
    """The incidents as they are stored."""

    async def get(self, incident_id: str) -> tuple[Incident, Sequence[IncidentHistoryEntry]] | None:
        """Return an incident and the newest thousand entries of its history, the oldest first, as of one moment."""

    async def list_page(self, wanted: IncidentFilter, page: Page) -> Sequence[IncidentSummary]:
        """Return up to one more than the page's size, the newest first, after `after` (ISO create time, id)."""


class SilenceReader(Protocol):
    """The silences as they are stored."""

    async def version(self) -> str:
        """Return a text that differs after each change of any silence, and between databases; cheap."""

    async def changes_since(self, version: str, now: datetime) -> SilenceChanges:
        """Return the silences that were written after a version; all that have not expired if it is not known."""

    async def get(self, silence_id: str) -> Silence | None:
        """Return one silence."""

    async def list_page(self, page: Page, *, id_prefix: str, expired: bool | None, now: datetime) -> Sequence[Silence]:
        """Return up to one silence more than the page's size, the newest first, after `after` (ISO create time, id)."""


class MatchedAlertReader(Protocol):
    """Of alerts, what silences look at."""

    async def list_open(self) -> Sequence[MatchedAlert]:
        """Return all open alerts, the oldest first."""

    async def list_withheld(self) -> Sequence[MatchedAlert]:
        """Return the open alerts that are silenced, or fire although nobody was notified of them."""

    async def list_recent(self, since: datetime, limit: int) -> Sequence[MatchedAlert]:
        """Return the newest alerts that fired since then."""


class SilenceFeed(Protocol):
    """The silences, in memory."""

    def index(self, now: datetime) -> SilenceIndex:
        """Return what is silenced now: the same object until a silence begins, ends or is written."""

    def names_alerts(self) -> bool:
        """Return whether a silence that has not expired is one of named alerts."""

    async def refresh(self) -> None:
        """Make what is known at least as new as this moment. Raises Failure."""


class RetentionStore(Protocol):
    """The store, as retention needs it."""

    async def count(self) -> RowCounts:
        """Return how many rows are stored."""

    async def purge(self, cutoffs: RetentionCutoffs) -> int:
        """Delete a batch of expired rows; return how many, 0 when none is left.

        Alerts expire with their history, counted from their end; open ones never do.
        """


class DedupCache(Protocol):
    """A fast guess, and never more than that, at which open keys have an open alert."""

    async def add(self, keys: Sequence[str]) -> frozenset[str]:
        """Add keys; return those that were not in the cache. Returns none when the cache is away."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove keys, whose alerts are resolved."""


class ResponseCache(Protocol):
    """Responses that need not be computed again: the response to a key never changes."""

    async def get(self, key: str, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the cached response, else compute and cache it. A cache that is away is passed over."""


class RuleFeed(Protocol):
    """The enabled rules as they change."""

    @property
    def current(self) -> RuleSnapshot:
        """Return the newest known snapshot."""

    async def after(self, version: str) -> RuleSnapshot:
        """Wait for a snapshot of another version. Raises Failure when the service stops."""

    async def refresh(self) -> None:
        """Make `current` at least as new as this moment. Raises Failure."""


class CatalogFeed(Protocol):
    """The catalog, in memory."""

    @property
    def current(self) -> Catalog:
        """Return the newest known catalog."""

    async def refresh(self) -> None:
        """Make `current` at least as new as this moment. Raises Failure."""


class AlertFeed(Protocol):
    """Changes of alerts, as any instance commits them."""

    def subscribe(self, wanted: AlertFilter) -> AbstractAsyncContextManager["AlertSubscription"]:
        """Watch alerts from now on."""


class AlertSubscription(Protocol):
    """What one watcher has yet to be sent."""

    def next(self) -> bytes | None:
        """Return the newest version of the next alert to send, encoded; None when all were sent.

        Raises Failure for a watcher that is too slow.
        """

    async def wait(self) -> None:
        """Wait until there may be something to send. Raises Failure when the service stops."""
