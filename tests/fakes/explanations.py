"""What explanations read, of the store in memory."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from services.manager.core.alert import Alert, AlertHistoryEntry, AlertHistoryKind
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.explanation import RuleRevision
from services.manager.core.incident import IncidentHistoryEntry
from services.manager.core.rule import StoredRule
from tests.fakes.manager import MemoryStore

_DELIVERIES = (AlertHistoryKind.NOTIFIED, AlertHistoryKind.NOTIFICATION_FAILED)


class MemoryExplanationReader:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def revisions(self, alerts: Sequence[Alert]) -> Mapping[str, Sequence[int]]:
        return {
            alert.id: tuple(
                dict.fromkeys(
                    (
                        self._judged(alert, Fired, alert.fire_time),
                        alert.status.last_firing.rule_revision,
                        self._judged(alert, Ended, alert.resolve_time),
                    )
                )
            )
            for alert in alerts
        }

    async def rules(self, revisions: Collection[int]) -> Mapping[int, RuleRevision]:
        stored = self._store.tables.rule_revisions
        return {number: _rule_of(stored[number]) for number in revisions if number in stored}

    async def incident_ids(self, alert_id: str) -> Sequence[str]:
        found = [each for each, _ in self._store.tables.incidents.incidents.values() if alert_id in each.alerts]
        return [each.id for each in sorted(found, key=lambda each: (each.create_time, each.id))][:10]

    async def own_history(self, alert_id: str, incident_ids: Sequence[str]) -> Sequence[IncidentHistoryEntry]:
        entries = self._store.tables.incidents.history.values()
        return [each for each in entries if each.incident_id in incident_ids and each.alert_id == alert_id][-1000:]

    async def deliveries(self, alert_ids: Sequence[str], limit: int) -> Sequence[AlertHistoryEntry]:
        entries = self._store.tables.history.values()
        return [entry for entry in entries if entry.alert_id in alert_ids and entry.kind in _DELIVERIES][-limit:]

    def _judged(self, alert: Alert, kind: type[Fired | Ended], time: datetime | None) -> int:
        return max(
            (
                transition.evaluation.rule_revision
                for transition in self._store.tables.transitions.values()
                if isinstance(transition.observation, kind)
                and transition.open_key == alert.subject.open_key
                and transition.evaluation.time == time
            ),
            default=alert.status.last_firing.rule_revision,
        )


def _rule_of(stored: StoredRule) -> RuleRevision:
    rule = stored.rule
    return RuleRevision(
        rule_id=rule.id,
        revision=rule.revision,
        edit_time=stored.update_time,
        name=rule.name,
        scope=rule.scope,
        filter=rule.filter,
        condition=rule.condition,
        threshold=rule.threshold,
        window=rule.window,
        group_by=rule.group_by,
    )
