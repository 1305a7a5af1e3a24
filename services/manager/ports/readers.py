"""What the manager reads outside of transactions, and the store as retention needs it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry
from services.manager.core.catalog import CatalogChanges, LearnedDependencies
from services.manager.core.dependency_graph import EdgeState
from services.manager.core.explanation import RuleRevision
from services.manager.core.incident import Incident, IncidentFilter, IncidentHistoryEntry, IncidentSummary
from services.manager.core.learned_edges import LearnedEdge
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.core.reports import AlertReport, IncidentReport, NotificationReport, ReportPeriod
from services.manager.core.routing_tree import StoredTree, TreeVersion
from services.manager.core.rule import RuleChanges, RuleSnapshot, RuleStatistics, StoredRule
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry
from services.manager.core.service_changes import ChangeFilter, ServiceChange
from services.manager.core.silence import Silence
from services.manager.core.silence_index import MatchedAlert


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
class LearnedEdgeFilter:
    """What must hold of a learned edge; an empty field holds of every edge."""

    # Either of its two services.
    service: str = ""
    states: tuple[EdgeState, ...] = ()
    # Whether edges that the graph does not have count as well.
    is_weak_included: bool = False

    def selects(self, edge: LearnedEdge) -> bool:
        """Return whether all fields hold."""
        return (
            self.service in {"", *edge.pair}
            and (not self.states or edge.state in self.states)
            and (self.is_weak_included or edge.is_in_graph)
        )


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
    incidents: datetime
    transitions: datetime
    requests: datetime
    changes: datetime
    silences: datetime
    audit: datetime


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

    async def learned(self) -> LearnedDependencies:
        """Return the learned dependencies that are in the graph, as of one moment."""


class LearnedEdgeReader(Protocol):
    """What was learned of dependencies, as it is stored."""

    async def list_page(self, wanted: LearnedEdgeFilter, page: Page) -> Sequence[LearnedEdge]:
        """Return up to one edge more than the page's size, in the order of their services, after `after` (both)."""


class RuleProblemReader(Protocol):
    """Which rules evaluators do not evaluate, as it is stored."""

    async def list_current(
        self, rule_ids: Sequence[str], reported_after: datetime
    ) -> Mapping[str, Sequence[ReportedProblem]]:
        """Return by rule what was reported after this time, in the order of the instances; only rules with problems."""

    async def list_beyond_limit(self, rule_ids: Sequence[str]) -> Mapping[str, int]:
        """Return by rule how many events of groups beyond a limit were counted; only rules with such events."""

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

    async def revision(self) -> int:
        """Return the newest revision: each change of incidents raises it, in the order of commits; cheap."""

    async def list_changed(self, revision: int, *, open_only: bool) -> Sequence[tuple[int, IncidentSummary]]:
        """Return the incidents that were written after a revision, each with its own one, in their order."""

    async def list_labels(
        self, incident_ids: Sequence[str], equal: Mapping[str, str]
    ) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """Return, by incident, the labels of its alerts that have these values, each once, and leave out the others."""


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


class RoutingReader(Protocol):
    """The versions of the routing tree as they are stored."""

    async def version(self) -> str:
        """Return a text that differs after each change of the tree; empty while none was ever set; cheap."""

    async def newest(self) -> StoredTree | None:
        """Return the newest version; None while none was ever set."""

    async def get(self, version: int) -> StoredTree | None:
        """Return a version, if it is kept."""

    async def list_page(self, page: Page) -> Sequence[TreeVersion]:
        """Return up to one version more than the page's size, the newest first, after `after` (its number)."""


class OnCallReader(Protocol):
    """People, schedules and escalation policies as they are stored."""

    async def version(self) -> str:
        """Return a text that differs after each change, and between databases; cheap."""

    async def snapshot(self) -> OnCallSnapshot:
        """Return all of them, as of one moment."""


class MatchedAlertReader(Protocol):
    """Of alerts, what silences look at."""

    async def list_open(self) -> Sequence[MatchedAlert]:
        """Return all open alerts, the oldest first."""

    async def list_silenced(self) -> Sequence[MatchedAlert]:
        """Return the open alerts that are silenced."""

    async def list_recent(self, since: datetime, limit: int) -> Sequence[MatchedAlert]:
        """Return the newest alerts that fired since then."""


class ReportTimeoutError(Exception):
    """The store needs too long for a report."""


class ReportReader(Protocol):
    """What is stored, counted. The rows of a report are bounded; days and severities without any may be missing."""

    async def alerts(self, period: ReportPeriod) -> AlertReport:
        """Count the alerts that fired in it, without those that another superseded. Raises ReportTimeoutError."""

    async def incidents(self, period: ReportPeriod) -> IncidentReport:
        """Count the incidents that were opened in it, without those that were merged into another. Raises likewise."""

    async def notifications(self, period: ReportPeriod) -> NotificationReport:
        """Count the notifications that were delivered or failed in it. Raises likewise."""


class ExplanationReader(Protocol):
    """What explanations read besides alerts, incidents and silences."""

    async def revisions(self, alerts: Sequence[Alert]) -> Mapping[str, Sequence[int]]:
        """Return by alert the revisions of the rule that judged it: of its firing, its last firing and its end."""

    async def rules(self, revisions: Collection[int]) -> Mapping[int, RuleRevision]:
        """Return what rules said at these revisions, of those that are stored."""

    async def incident_ids(self, alert_id: str) -> Sequence[str]:
        """Return the incidents that have an alert, also those that were merged into others, up to ten."""

    async def own_history(self, alert_id: str, incident_ids: Sequence[str]) -> Sequence[IncidentHistoryEntry]:
        """Return the newest 1,000 entries about an alert in the histories of incidents, the oldest first."""

    async def deliveries(self, alert_ids: Sequence[str], limit: int) -> Sequence[AlertHistoryEntry]:
        """Return the newest deliveries of these alerts, the oldest first."""


class RetentionStore(Protocol):
    """The store, as retention needs it."""

    async def count(self) -> RowCounts:
        """Return how many rows are stored."""

    async def purge(self, cutoffs: RetentionCutoffs) -> int:
        """Delete a batch of expired rows; return how many, 0 when none is left.

        Alerts and incidents expire with their history, counted from their end; open ones never do.
        """
