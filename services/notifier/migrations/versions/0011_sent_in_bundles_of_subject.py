"""What was delivered in a bundle is found as what waits in one: a channel that failed may get the bundle later."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the index in place of the one of what waits."""
    op.execute(
        "CREATE INDEX deliveries_in_bundles_of_subject ON deliveries (subject_id, sequence) WHERE bundle_id IS NOT NULL"
    )
    op.execute("DROP INDEX deliveries_bundled_of_subject")
