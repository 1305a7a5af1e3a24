"""People who look into the database name tables without a schema, as in the first version of this system."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Set the database's search path, unless somebody has, or this user may not; our own sessions set theirs."""
    op.execute(
        """
        DO $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM pg_db_role_setting AS given JOIN pg_database AS mine ON mine.oid = given.setdatabase,
                            unnest(given.setconfig) AS setting
                WHERE mine.datname = current_database() AND given.setrole = 0 AND setting LIKE 'search_path=%'
            ) THEN
                EXECUTE format('ALTER DATABASE %I SET search_path = "$user", public, notifier, manager',
                               current_database());
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'the search path of the database stays as it is';
        END $$
        """
    )
