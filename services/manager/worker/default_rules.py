"""The rules that a new system starts with; people may change and delete them like their own."""

from collections.abc import Callable
from datetime import datetime

import structlog

from services.domain.severity import Severity
from services.manager.core import rule_edits
from services.manager.core.rule import RuleEdit
from services.manager.ports.tables import Store
from services.rule_language.rule import Draft, RuleType, complete

log = structlog.get_logger()

# A database that has this seed is never given the rules again.
SEED = "default-rules"

DEFAULT_RULES: tuple[Draft, ...] = (
    Draft(
        name="High error count",
        description="More than 100 errors of one service within five minutes.",
        type=RuleType.ERROR_THRESHOLD,
        threshold=100.0,
        window_minutes=5,
        severity=Severity.CRITICAL,
    ),
    Draft(
        name="Slow responses",
        description="More than 50 responses of one service within five minutes took longer than two seconds.",
        type=RuleType.LATENCY_THRESHOLD,
        threshold=50.0,
        window_minutes=5,
        severity=Severity.HIGH,
    ),
    Draft(
        name="Failed responses",
        description="More than 25 responses of one service within five minutes had a status of 500 or above.",
        type=RuleType.ERROR_RATE,
        threshold=25.0,
        window_minutes=5,
        severity=Severity.CRITICAL,
    ),
)


async def create_default_rules(store: Store, new_id: Callable[[], str], now: datetime) -> None:
    """Create the default rules if this database never had them; one of several instances does."""
    async with store.transaction() as transaction:
        if not await transaction.seeds.insert(SEED):
            return
        for draft in DEFAULT_RULES:
            revision = await transaction.rules.take_revision()
            stored = rule_edits.create(complete(draft), new_id(), revision, now=now)
            await transaction.rules.upsert(stored, RuleEdit.CREATED)
    log.info("default_rules_created", rules=len(DEFAULT_RULES))
