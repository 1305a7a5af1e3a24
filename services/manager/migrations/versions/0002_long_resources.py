"""An index of resources of any length."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Index the hash of a resource: an entry of a B-tree holds 2,704 bytes, and a resource may be longer."""
    op.execute("DROP INDEX alerts_by_resource")
    op.execute("CREATE INDEX alerts_by_resource ON alerts (md5(resource), fire_time DESC, id DESC)")
