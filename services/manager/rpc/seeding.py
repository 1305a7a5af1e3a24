"""The rules of a new system."""

from collections.abc import Callable
from datetime import datetime

import structlog

from services.manager.core.commands.defaults import DEFAULT_RULES, SEED
from services.manager.core.commands.rules import created
from services.manager.core.rule import Edit
from services.manager.ports.commands import Store
from services.rule_language.rule import complete

log = structlog.get_logger()


async def sow_default_rules(store: Store, new_id: Callable[[], str], now: datetime) -> None:
    """Make the default rules if this database never had them; of several instances one does."""
    async with store.writing() as writing:
        if not await writing.rules.sow(SEED):
            return
        for draft in DEFAULT_RULES:
            rule = complete(draft)
            await writing.rules.keep(
                created(rule, new_id(), await writing.rules.next_revision(), now=now), Edit.CREATED
            )
    log.info("default_rules_made", rules=len(DEFAULT_RULES))
