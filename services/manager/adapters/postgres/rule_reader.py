"""The rules, for reading them."""

from collections.abc import Sequence

from services.chassis.postgres import Database
from services.manager.adapters.postgres.rows import RULE_COLUMNS, rule_of
from services.manager.core.queries.filters import Page, RuleFilter
from services.manager.core.rule import KeptRule, RuleChanges, RuleSet


# ruff: noqa: S608  (made of our own column names)
class PostgresRuleReader:
    """Table alert_rules, outside of transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
            f"""select newest.revision as whole_revision, newest.epoch, rules.* from rule_revision as newest
                left join (select {RULE_COLUMNS} from alert_rules where enabled) as rules on true
                order by rules.name"""
        )
        rules = tuple(rule_of(row) for row in rows if row["id"] is not None)
        revision = rows[0]["whole_revision"]
        return RuleSet(revision=revision, epoch=rows[0]["epoch"], rules=rules, since=revision)

    async def changes(self, since: int) -> RuleChanges:
        """See RuleReader. One statement, likewise."""
        rows = await self._database.fetch(
            f"""select newest.revision as whole_revision, newest.epoch, rules.*,
                       array(select rule_id from alert_rule_history
                             where revision > $1 and edit = 'DELETED') as deleted
                from rule_revision as newest
                left join (select {RULE_COLUMNS} from alert_rules where revision > $1) as rules on true
                order by rules.name""",
            since,
        )
        found = [rule_of(row) for row in rows if row["id"] is not None]
        disabled = (kept.rule.id for kept in found if not kept.rule.enabled)
        return RuleChanges(
            revision=rows[0]["whole_revision"],
            epoch=rows[0]["epoch"],
            rules=tuple(kept for kept in found if kept.rule.enabled),
            removed=(*rows[0]["deleted"], *disabled),
        )
