"""The rules, for reading them."""

from collections.abc import Sequence

from services.chassis.postgres import Database
from services.manager.adapters.postgres.rows import RULE_COLUMNS, rule_of
from services.manager.core.queries.filters import RuleFilter
from services.manager.core.queries.paging import Page
from services.manager.core.rule import KeptRule, RuleSet


# ruff: noqa: S608  (made of our own column names)
class PostgresRuleReader:
    """Table alert_rules, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> int:
        """See RuleReader."""
        row = await self._database.fetchrow("select revision from rule_revision")
        return int(row["revision"]) if row else 0

    async def version(self) -> str:
        """See RuleReader."""
        row = await self._database.fetchrow("select epoch, revision from rule_revision")
        return f"{row['epoch']}.{row['revision']}" if row else ""

    async def get(self, rule_id: str) -> KeptRule | None:
        """See RuleReader."""
        row = await self._database.fetchrow(f"select {RULE_COLUMNS} from alert_rules where id = $1", rule_id)
        return rule_of(row) if row else None

    async def page(self, wanted: RuleFilter, page: Page) -> Sequence[KeptRule]:
        """See RuleReader."""
        rows = await self._database.fetch(
            f"""select {RULE_COLUMNS} from alert_rules
                where ($1::boolean is null or enabled = $1) and ($2::text is null or name > $2)
                order by name limit $3""",
            wanted.enabled,
            page.after[0] if page.after else None,
            page.size + 1,
        )
        return [rule_of(row) for row in rows]

    async def enabled(self) -> RuleSet:
        """See RuleReader. One statement, so revision and rules belong together."""
        rows = await self._database.fetch(
            f"""select newest.revision as whole_revision, rules.* from rule_revision as newest
                left join (select {RULE_COLUMNS} from alert_rules where enabled) as rules on true
                order by rules.name"""
        )
        rules = tuple(rule_of(row) for row in rows if row["id"] is not None)
        return RuleSet(revision=rows[0]["whole_revision"], rules=rules)
