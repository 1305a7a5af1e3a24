"""A store of incidents, and how tests write to it and read from it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from services.domain.severity import Severity
from services.domain.trace_context import TraceHeaders
from services.manager.adapters.postgres.incidents import PostgresIncidentReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.core.alert_lifecycle import Ended, Fired
from services.manager.core.incident import (
    Correlation,
    CorrelationReason,
    Incident,
    IncidentAlert,
)
from services.manager.core.incident_changes import (
    IncidentChange,
)
from services.manager.core.transitions import decide
from services.manager.ports.readers import IncidentReader
from services.manager.ports.tables import Store
from tests.contract.manager.stores import migrated
from tests.fakes.incidents import MemoryIncidentReader
from tests.fakes.manager import MemoryStore
from tests.fakes.transitions import NOW, START, a_subject, a_transition

SETTLE = timedelta(minutes=2)
LONG_AGO = START - timedelta(days=999)
RELATED = Correlation(
    incident_id="i",
    reason=CorrelationReason.DEPENDENCY,
    path=("shop", "data base"),
    labels={"team": "a", "nul": "before\0after"},
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its reader."""

    store: Store
    incidents: IncidentReader


def alert(name: str, service: str = "shop") -> IncidentAlert:
    return IncidentAlert(
        id=name,
        rule_name='"quotes" and\nlines',
        service=service,
        resource=f"service={service} \N{SNOWMAN}",
        severity=Severity.HIGH,
        labels={"team": "a", "": ""},
        fire_time=NOW,
    )


def memory_stored() -> Stored:
    store = MemoryStore()
    return Stored(store, MemoryIncidentReader(store))


@asynccontextmanager
async def postgres_stored(database: str) -> AsyncIterator[Stored]:
    async with migrated(database) as opened:
        yield Stored(PostgresStore(opened), PostgresIncidentReader(opened))


async def save(stored: Stored, *changes: IncidentChange, before: Sequence[Incident] = ()) -> int:
    """Write changes at one revision, and return it."""
    async with stored.store.transaction() as transaction:
        revision = await transaction.incidents.lock()
        await transaction.incidents.save(changes, revision, before={each.id: each for each in before})
    return revision


async def load(stored: Stored, *names: str) -> dict[str, Incident]:
    async with stored.store.transaction() as transaction:
        return dict(await transaction.incidents.load(names))


async def decide_alerts(
    stored: Stored,
    kind: type[Fired] | type[Ended],
    *resources: str,
    headers: TraceHeaders = (),
    is_correlated: bool = False,
) -> None:
    """Let alerts fire or end."""
    transitions = [a_transition(kind, subject=a_subject(resource)) for resource in resources]
    async with stored.store.transaction() as transaction:
        context = await transaction.alerts.load_for_update(transitions, expected_new=())
        await transaction.transitions.insert(transitions)
        _, outcomes = decide(context, transitions, NOW)
        changes = [(change, headers) for outcome in outcomes for change in outcome.changes]
        await transaction.alerts.save(changes, is_correlated=is_correlated)


async def seen(stored: Stored, limit: int = 10, *, mark: bool = False) -> list[tuple[str, bool]]:
    async with stored.store.transaction() as transaction:
        found = await transaction.incidents.list_seen(limit)
        if mark:
            await transaction.incidents.mark_seen([each.alert for each in found])
    return [(each.alert.subject.resource, each.is_stored) for each in found]
