"""Migrate the manager's schema, apart from the service: `python -m services.manager.migrate`.

It takes MANAGER_DATABASE_URL, MANAGER_MIGRATION_DATABASE_URL and what belongs to them from the environment. With
MANAGER_MIGRATE_AT_START=false the service itself then needs no user but its own.
"""

from dataclasses import dataclass

from services.chassis.migrations import migrate, migrate_apart
from services.chassis.settings import PostgresSettings, part
from services.manager.app import MIGRATIONS, SCHEMA, set_retention
from services.manager.settings import PREFIX, AuditSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """What is needed of the manager's settings."""

    postgres: PostgresSettings = part()
    audit: AuditSettings = part()


async def _migrate(settings: MigrationSettings) -> None:
    await migrate(settings.postgres, schema=SCHEMA, scripts=MIGRATIONS, afterwards=set_retention(settings.audit))


if __name__ == "__main__":
    migrate_apart("manager", MigrationSettings, PREFIX, _migrate)
