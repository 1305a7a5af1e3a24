"""The rules, for changing them."""

import json
from datetime import datetime

from asyncpg import UniqueViolationError

from services.chassis.postgres import Connection
from services.manager.adapters.postgres import RULES_CHANGED
from services.manager.adapters.postgres.rows import RULE_COLUMNS, rule_of, rule_row
from services.manager.core.rule import Edit, KeptRule
from services.manager.ports.commands import NameTakenError

_NAMES = [name.strip() for name in RULE_COLUMNS.split(",")]
_UPSERT = f"""
    insert into alert_rules ({RULE_COLUMNS}) values ({", ".join(f"${n}" for n in range(1, len(_NAMES) + 1))})
    on conflict (id) do update set {", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])}
"""  # noqa: S608  (made of our own column names)


class PostgresRules:
    """Tables alert_rules and alert_rule_history, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def next_revision(self) -> int:
        """See RuleTable."""
        revision: int = await self._connection.fetchval(
            "update rule_revision set revision = revision + 1 returning revision"
        )
        await self._connection.execute("select pg_notify($1, $2)", RULES_CHANGED, str(revision))
        return revision

    async def count(self) -> int:
        """See RuleTable."""
        return int(await self._connection.fetchval("select count(*) from alert_rules"))

    async def find(self, rule_id: str) -> KeptRule | None:
        """See RuleTable."""
        row = await self._connection.fetchrow(
            f"select {RULE_COLUMNS} from alert_rules where id = $1 for update",  # noqa: S608  (our own columns)
            rule_id,
        )
        return rule_of(row) if row else None

    async def keep(self, kept: KeptRule, edit: Edit) -> None:
        """See RuleTable."""
        try:
            await self._connection.execute(_UPSERT, *rule_row(kept))
        except UniqueViolationError as error:
            raise NameTakenError(kept.rule.name) from error
        await self._write_history(kept, kept.rule.revision, edit, kept.update_time)

    async def remove(self, kept: KeptRule, revision: int, now: datetime) -> None:
        """See RuleTable."""
        await self._connection.execute("delete from alert_rules where id = $1", kept.rule.id)
        await self._write_history(kept, revision, Edit.DELETED, now)

    async def sow(self, seed: str) -> bool:
        """See RuleTable."""
        return bool(
            await self._connection.fetchval(
                "insert into seeds (name) values ($1) on conflict do nothing returning true", seed
            )
        )

    async def _write_history(self, kept: KeptRule, revision: int, edit: Edit, now: datetime) -> None:
        await self._connection.execute(
            """insert into alert_rule_history (revision, rule_id, edit, rule, create_time)
               values ($1, $2, $3, $4, $5)""",
            revision,
            kept.rule.id,
            edit.value,
            _readable(kept),
            now,
        )


def _readable(kept: KeptRule) -> str:
    row = dict(zip(_NAMES, rule_row(kept), strict=True))
    row["labels"] = dict(kept.rule.labels)
    return json.dumps(row, default=str)
