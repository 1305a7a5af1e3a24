"""A store of rules and alerts with its readers, and how tests write to it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.migrations import migrate
from services.chassis.postgres import Database, connect
from services.chassis.settings import PostgresSettings, Secret
from services.domain.severity import Severity
from services.domain.trace_context import TraceHeaders
from services.manager.adapters.postgres.alert_reader import PostgresAlertReader
from services.manager.adapters.postgres.rule_problems import PostgresRuleProblemReader
from services.manager.adapters.postgres.rules import PostgresRuleReader, PostgresRuleStatisticsReader
from services.manager.adapters.postgres.store import PostgresStore
from services.manager.app import MIGRATIONS, SCHEMA
from services.manager.core.alert import Alert
from services.manager.core.rule import RuleEdit, StoredRule
from services.manager.core.rule_edits import create
from services.manager.core.rule_problems import ReportedProblem, apply_report
from services.manager.core.transitions import ReceivedTransition, decide
from services.manager.ports.readers import AlertReader, RuleProblemReader, RuleReader, RuleStatisticsReader
from services.manager.ports.tables import Store, Transaction
from services.rule_language.rule import Draft, RuleType, complete
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import (
    MemoryAlertReader,
    MemoryRuleProblemReader,
    MemoryRuleReader,
    MemoryRuleStatisticsReader,
)
from tests.fakes.transitions import NOW

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass(frozen=True, slots=True)
class Stored:
    """A store and its readers."""

    store: Store
    alerts: AlertReader
    rules: RuleReader
    statistics: RuleStatisticsReader
    problems: RuleProblemReader


def rule(name: str, *, enabled: bool = True) -> StoredRule:
    draft = Draft(
        name=name,
        type=RuleType.ERROR_THRESHOLD,
        threshold=1.5,
        window=timedelta(seconds=90),
        severity=Severity.LOW,
        labels={"team": "a"},
        enabled=enabled,
    )
    return create(complete(draft), f"id of {name}", 1, now=NOW)


async def process(
    stored: Stored, *transitions: ReceivedTransition, expected_new: Sequence[str] = (), headers: TraceHeaders = ()
) -> list[Alert]:
    async with stored.store.transaction() as transaction:
        context = await transaction.alerts.load_for_update(transitions, expected_new=expected_new)
        processed = await transaction.transitions.insert(transitions)
        _, outcomes = decide(replace(context, processed=processed), transitions, NOW)
        changes = [outcome.change for outcome in outcomes if outcome.change]
        await transaction.alerts.save([(change, headers) for change in changes])
    return [change.alert for change in changes]


async def report(transaction: Transaction, problems: Mapping[str, ReportedProblem], now: datetime) -> None:
    (instance,) = {problem.instance for problem in problems.values()}
    stored = await transaction.rule_problems.load_for_update(instance)
    await transaction.rule_problems.save(instance, apply_report(stored, problems, now), now)


async def create_all(transaction: Transaction, *rules: StoredRule) -> None:
    for each in rules:
        revision = await transaction.rules.take_revision()
        await transaction.rules.upsert(replace(each, rule=replace(each.rule, revision=revision)), RuleEdit.CREATED)


def memory_stored() -> Stored:
    store = MemoryStore()
    return Stored(
        store,
        MemoryAlertReader(store),
        MemoryRuleReader(store),
        MemoryRuleStatisticsReader(store),
        MemoryRuleProblemReader(store),
    )


@asynccontextmanager
async def migrated(database: str) -> AsyncIterator[Database]:
    """Yield a database with the manager's schema."""
    settings = PostgresSettings(database_url=Secret(database))
    await migrate(settings, schema=SCHEMA, scripts=MIGRATIONS)
    async with connect(settings, schema=SCHEMA) as opened:
        yield opened


def stored_in(database: Database) -> Stored:
    return Stored(
        PostgresStore(database),
        PostgresAlertReader(database),
        PostgresRuleReader(database),
        PostgresRuleStatisticsReader(database),
        PostgresRuleProblemReader(database),
    )
