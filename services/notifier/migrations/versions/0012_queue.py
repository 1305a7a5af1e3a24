"""The queue of a channel is read in its order, and for nothing else.

Its former index held what is on its way, and any statement could use it that looked for something on its way, also
about one subject: after an analysis while nothing waited the planner took it for empty, and such statements read the
whole queue, for each delivery. What this one holds is said so that only statements about the queue use it.
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the index in place of the former one."""
    op.execute(
        "CREATE INDEX deliveries_queue ON deliveries (channel, due_at, created_at, sequence)"
        " WHERE (state IN ('PENDING', 'IN_FLIGHT', 'FAILED')) IS TRUE"
    )
    op.execute("DROP INDEX deliveries_open")
