"""What the manager reads, in memory: readers of a store, feeds and caches."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

from services.manager.core.alert import Alert, AlertFilter, AlertHistoryEntry
from services.manager.core.catalog import Catalog, CatalogChanges, LearnedDependencies
from services.manager.core.learned_edges import LearnedEdge
from services.manager.core.on_call import OnCallDirectory
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.core.routing_tree import StoredTree, TreeVersion
from services.manager.core.rule import RuleChanges, RuleSnapshot, RuleStatistics, StoredRule
from services.manager.core.rule_problems import ReportedProblem, RuleHistoryEntry
from services.manager.core.service_changes import ChangeFilter, ServiceChange
from services.manager.core.silence import Silence, SilenceState
from services.manager.core.silence_index import MatchedAlert
from services.manager.ports.readers import LearnedEdgeFilter, Page, SilenceChanges
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_tables import MemorySilences


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
        tables = self._store.tables
        return f"{tables.epoch}.{tables.catalog_revision}.{tables.learned.revision}"

    async def snapshot(self) -> CatalogChanges:
        return self._written_after(-1)

    async def changes_since(self, revision: int) -> CatalogChanges | None:
        return None if self._store.tables.catalog_deletion > revision else self._written_after(revision)

    async def learned(self) -> LearnedDependencies:
        rows = self._store.tables.learned
        edges = tuple(edge.dependency for edge in rows.edges.values() if edge.is_in_graph)
        return LearnedDependencies(revision=rows.revision, edges=edges)

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
        catalog = Catalog.of(await self._reader.snapshot())
        self.current = catalog.with_learned(await self._reader.learned())


class MemoryLearnedEdgeReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def list_page(self, wanted: LearnedEdgeFilter, page: Page) -> Sequence[LearnedEdge]:
        edges = sorted(self._store.tables.learned.edges.values(), key=lambda edge: edge.pair)
        return [edge for edge in edges if edge.pair > (page.after or ("", "")) and wanted.selects(edge)][
            : page.size + 1
        ]


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

    async def list_beyond_limit(self, rule_ids: Sequence[str]) -> Mapping[str, int]:
        counted = self._store.tables.rule_statistics
        return {
            rule_id: counted[rule_id].beyond_limit
            for rule_id in rule_ids
            if rule_id in counted and counted[rule_id].beyond_limit
        }

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

    async def list_silenced(self) -> Sequence[MatchedAlert]:
        return [each for each in await self.list_open() if each.silenced_by]

    async def list_recent(self, since: datetime, limit: int) -> Sequence[MatchedAlert]:
        alerts = await MemoryAlertReader(self._store).list_page(AlertFilter(fired_after=since), Page(size=limit - 1))
        return [_matched(alert) for alert in alerts]


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


def version_of(stored: StoredTree) -> TreeVersion:
    """Return a version without its tree."""
    return TreeVersion(
        version=stored.version, author=stored.author, comment=stored.comment, create_time=stored.create_time
    )


class MemoryRoutingReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self) -> str:
        newest = await self.newest()
        return newest.etag if newest else ""

    async def newest(self) -> StoredTree | None:
        return await self.get(max(self._store.tables.routing, default=0))

    async def get(self, version: int) -> StoredTree | None:
        return self._store.tables.routing.get(version)

    async def list_page(self, page: Page) -> Sequence[TreeVersion]:
        newest_first = sorted(self._store.tables.routing.values(), key=lambda stored: -stored.version)
        rest = [stored for stored in newest_first if not page.after or stored.version < int(page.after[0])]
        return [version_of(stored) for stored in rest[: page.size + 1]]


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


def _matched(alert: Alert) -> MatchedAlert:
    return MatchedAlert(id=alert.id, labels=alert.subject.labels, silenced_by=alert.silenced_by)


class MemoryOnCallReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self) -> str:
        return self._store.tables.on_call.version

    async def snapshot(self) -> OnCallSnapshot:
        return self._store.tables.on_call


class MemoryOnCallFeed:
    """Reads everything each time."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    @property
    def snapshot(self) -> OnCallSnapshot:
        return self._store.tables.on_call

    @property
    def current(self) -> OnCallDirectory:
        return self.snapshot.directory()

    async def refresh(self) -> None:
        return
