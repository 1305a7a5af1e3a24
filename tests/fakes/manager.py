"""The manager's ports in memory."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.chassis.failures import StoreUnavailable
from services.domain.alert import Fired, Memory
from services.domain.trace_context import trace_id_of, traceparent_of
from services.manager.core.alert import Alert, Entry, Notice
from services.manager.core.commands.change import Change
from services.manager.core.commands.rules import Ending
from services.manager.core.commands.transitions import Book, Episode, Transition
from services.manager.core.queries.filters import AlertFilter, Page, RuleFilter
from services.manager.core.rule import Edit, KeptRule, RuleChanges, RuleSet
from services.manager.ports.commands import Answered, Headers, NameTakenError, OpenAlertExistsError, Request


@dataclass
class Kept:
    """All tables."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    history: dict[str, Entry] = field(default_factory=dict)
    transitions: dict[tuple[str, str], Transition] = field(default_factory=dict)
    outbox: list[tuple[Alert, Notice, Headers]] = field(default_factory=list)
    rules: dict[str, KeptRule] = field(default_factory=dict)
    rule_history: list[tuple[int, Edit]] = field(default_factory=list)
    requests: dict[str, tuple[Answered, datetime]] = field(default_factory=dict)
    endings: dict[int, Ending] = field(default_factory=dict)
    seeds: set[str] = field(default_factory=set)
    deleted_rules: dict[str, int] = field(default_factory=dict)
    epoch: str = "memory"
    revision: int = 0


class MemoryRequests:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._now: dict[str, datetime] = {}

    async def first(self, request: Request, now: datetime) -> Answered | None:
        self._now[request.id] = now
        found = self._kept.requests.get(request.id)
        return found[0] if found and found[1] >= now - timedelta(hours=24) else None

    async def answer(self, request: Request, answer: bytes) -> None:
        self._kept.requests[request.id] = (Answered(body=request.body, answer=answer), self._now[request.id])


class MemoryRules:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def next_revision(self) -> int:
        self._kept.revision += 1
        return self._kept.revision

    async def count(self) -> int:
        return len(self._kept.rules)

    async def find(self, rule_id: str) -> KeptRule | None:
        return self._kept.rules.get(rule_id)

    async def keep(self, kept: KeptRule, edit: Edit) -> None:
        others = (each.rule for each in self._kept.rules.values() if each.rule.id != kept.rule.id)
        if any(rule.name == kept.rule.name for rule in others):
            raise NameTakenError(kept.rule.name)
        self._kept.rules[kept.rule.id] = kept
        self._kept.rule_history.append((kept.rule.revision, edit))

    async def remove(self, kept: KeptRule, revision: int, now: datetime) -> None:  # noqa: ARG002  (the port's)
        del self._kept.rules[kept.rule.id]
        self._kept.deleted_rules[kept.rule.id] = revision
        self._kept.rule_history.append((revision, Edit.DELETED))

    async def sow(self, seed: str) -> bool:
        is_new = seed not in self._kept.seeds
        self._kept.seeds.add(seed)
        return is_new


class MemoryAlerts:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def book(self, transitions: Sequence[Transition], *, expected_new: Collection[str]) -> Book:
        past: dict[Episode, Memory] = {each.episode: self._past(each.episode) for each in transitions}
        done = {each.key for each in transitions} & set(self._kept.transitions)
        for each in transitions:
            self._kept.transitions.setdefault(each.key, each)
        wanted = {each.open_key for each in transitions} - set(expected_new)
        found = {alert.subject.open_key: alert for alert in self._kept.alerts.values() if alert.life.is_open}
        return Book(open={name: alert for name, alert in found.items() if name in wanted}, past=past, done=done)

    async def save(self, changes: Sequence[tuple[Change, Headers]]) -> None:
        for change, headers in changes:
            self._kept.alerts[change.alert.id] = change.alert
            self._kept.outbox += [(change.alert, notice, headers) for notice in change.notices]
            await self.note([replace(entry, trace_id=trace_id_of(traceparent_of(headers))) for entry in change.entries])
        still = [alert.subject.open_key for alert in self._kept.alerts.values() if alert.life.is_open]
        if len(still) != len(set(still)):
            raise OpenAlertExistsError

    async def find(self, alert_id: str) -> Alert | None:
        return self._kept.alerts.get(alert_id)

    async def open_of(self, rule_id: str, *, before: int, limit: int) -> Sequence[Alert]:
        found = [
            alert
            for alert in self._kept.alerts.values()
            if alert.subject.rule_id == rule_id and alert.life.is_open and alert.life.last_firing.revision < before
        ]
        return sorted(found, key=lambda alert: alert.subject.open_key)[:limit]

    async def note(self, entries: Sequence[Entry]) -> int:
        fresh = [each for each in entries if each.alert_id in self._kept.alerts and each.id not in self._kept.history]
        self._kept.history.update({each.id: each for each in fresh})
        return len({each.id for each in fresh})

    def _past(self, episode: Episode) -> Memory:
        words = [each.word for each in self._kept.transitions.values() if each.episode == episode]
        said = sorted(words, key=lambda word: (word.verdict.selection, word.verdict.revision, word.verdict.time))
        fired = [word.verdict for word in said if isinstance(word, Fired)]
        ended = [word.verdict for word in said if not isinstance(word, Fired)]
        return Memory(fired=fired[-1] if fired else None, ended=ended[-1] if ended else None)


class MemoryEndings:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def add(self, ending: Ending, now: datetime) -> None:  # noqa: ARG002  (the port's)
        self._kept.endings[ending.revision] = ending

    async def next(self) -> Ending | None:
        return min(self._kept.endings.values(), key=lambda ending: ending.revision, default=None)

    async def done(self, ending: Ending) -> None:
        del self._kept.endings[ending.revision]


class MemoryWriting:
    def __init__(self, kept: Kept) -> None:
        self.requests = MemoryRequests(kept)
        self.rules = MemoryRules(kept)
        self.alerts = MemoryAlerts(kept)
        self.endings = MemoryEndings(kept)


class MemoryStore:
    """Transactions one after the other; `fail_commits` of them are lost at the last moment."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.fail_commits = 0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[MemoryWriting]:
        async with self._lock:
            draft = copy.deepcopy(self.kept)
            yield MemoryWriting(draft)
            if self.fail_commits:
                self.fail_commits -= 1
                raise StoreUnavailable("the database does not answer")
            self.kept = draft


class MemoryRuleReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self) -> str:
        return f"{self._store.kept.epoch}.{self._store.kept.revision}"

    async def get(self, rule_id: str) -> KeptRule | None:
        return self._store.kept.rules.get(rule_id)

    async def page(self, wanted: RuleFilter, page: Page) -> Sequence[KeptRule]:
        found = sorted(self._store.kept.rules.values(), key=lambda kept: kept.rule.name.encode())
        selected = [kept for kept in found if wanted.enabled in {None, kept.rule.enabled}]
        after = page.after[0].encode() if page.after else None
        return [kept for kept in selected if after is None or kept.rule.name.encode() > after][: page.size + 1]

    async def enabled(self) -> RuleSet:
        found = sorted(self._store.kept.rules.values(), key=lambda kept: kept.rule.name.encode())
        rules = tuple(kept for kept in found if kept.rule.enabled)
        revision = self._store.kept.revision
        return RuleSet(revision=revision, epoch=self._store.kept.epoch, rules=rules, since=revision)

    async def changes(self, since: int) -> RuleChanges:
        kept = self._store.kept
        found = sorted(kept.rules.values(), key=lambda each: each.rule.name.encode())
        changed = [each for each in found if each.rule.revision > since]
        deleted = [rule_id for rule_id, revision in kept.deleted_rules.items() if revision > since]
        return RuleChanges(
            revision=kept.revision,
            epoch=kept.epoch,
            rules=tuple(each for each in changed if each.rule.enabled),
            removed=(*deleted, *(each.rule.id for each in changed if not each.rule.enabled)),
        )


class MemoryAlertReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def version(self, alert_id: str) -> str | None:
        found = await self.get(alert_id)
        return f"{found[0].version}.{len(found[1])}" if found else None

    async def get(self, alert_id: str) -> tuple[Alert, Sequence[Entry]] | None:
        alert = self._store.kept.alerts.get(alert_id)
        if alert is None:
            return None
        return alert, [entry for entry in self._store.kept.history.values() if entry.alert_id == alert_id][-1000:]

    async def page(self, wanted: AlertFilter, page: Page) -> Sequence[Alert]:
        found = sorted(self._store.kept.alerts.values(), key=lambda alert: (alert.fire_time, alert.id), reverse=True)
        after = (datetime.fromisoformat(page.after[0]), page.after[1]) if page.after else None
        rest = [alert for alert in found if after is None or (alert.fire_time, alert.id) < after]
        return [alert for alert in rest if wanted.selects(alert)][: page.size + 1]

    async def open(self, wanted: AlertFilter) -> Sequence[Alert]:
        found = [alert for alert in self._store.kept.alerts.values() if alert.life.is_open and wanted.selects(alert)]
        return sorted(found, key=lambda alert: (alert.fire_time, alert.id))

    async def named(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        found = [alert for alert in self._store.kept.alerts.values() if alert.id in alert_ids]
        return sorted(found, key=lambda alert: (alert.update_time, alert.id))


class MemoryClaims:
    """Claims that can be put to sleep, or made to lie by putting names in."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.is_away = False

    async def claim(self, fingerprints: Sequence[str]) -> frozenset[str]:
        if self.is_away:
            return frozenset()
        new = frozenset(fingerprints) - self.held
        self.held |= new
        return new

    async def release(self, fingerprints: Sequence[str]) -> None:
        if not self.is_away:
            self.held -= set(fingerprints)


class MemoryAnswers:
    """Keeps answers for ever, as the port allows."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def get(self, key: str, work_out: Callable[[], Awaitable[bytes]]) -> bytes:
        if key not in self.kept:
            self.kept[key] = await work_out()
        return self.kept[key]
