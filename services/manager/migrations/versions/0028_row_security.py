"""What each tenant has one row of is under row-level security, too."""

from alembic import op

revision = "0028"
down_revision = "0025"

_TABLES = (
    "catalog_revision",
    "silence_revision",
    "routing_lock",
    "on_call_revision",
    "learned_edge_revision",
    "incident_revision",
)


def upgrade() -> None:
    """Give the columns the default by which a table is put under row-level security after the migrations."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} ALTER tenant SET DEFAULT current_tenant()")
