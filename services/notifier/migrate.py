"""Migrate the notifier's schema, apart from the service: `python -m services.notifier.migrate`.

It takes NOTIFIER_DATABASE_URL, NOTIFIER_MIGRATION_DATABASE_URL and what belongs to them from the environment. With
NOTIFIER_MIGRATE_AT_START=false the service itself then needs no user but its own.
"""

from functools import partial

from services.chassis.migrations import migrate, migrate_apart
from services.chassis.settings import PostgresSettings
from services.notifier.app import MIGRATIONS, SCHEMA
from services.notifier.settings import PREFIX

if __name__ == "__main__":
    migrate_apart("notifier", PostgresSettings, PREFIX, partial(migrate, schema=SCHEMA, scripts=MIGRATIONS))
