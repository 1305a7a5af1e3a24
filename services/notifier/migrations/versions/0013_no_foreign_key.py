"""Deliveries refer to notifications without a foreign key, which looks one up for each row, and again when it changes.

Who inserts deliveries locks their notifications in the same statement, and whoever deletes notifications deletes their
deliveries first. A former release beside this one deletes likewise.
"""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Drop the foreign key."""
    op.execute("ALTER TABLE deliveries DROP CONSTRAINT deliveries_notification_id_fkey")
