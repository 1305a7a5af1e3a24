"""An index of resources that takes them at any length."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A B-tree entry holds 2,704 bytes at most, and a resource of several fields may be longer: index its hash."""
    op.execute("drop index alerts_by_resource")
    op.execute("create index alerts_by_resource on alerts (md5(resource), fire_time desc, id desc)")
