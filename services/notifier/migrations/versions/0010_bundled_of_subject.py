"""What is in a bundle of a subject is found at once: its later notifications wait for the bundle."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the index."""
    op.execute(
        "CREATE INDEX deliveries_bundled_of_subject ON deliveries (subject_id, sequence)"
        " WHERE state = 'HELD' AND bundle_id IS NOT NULL"
    )
