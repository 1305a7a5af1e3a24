"""All deliveries, for people to look at."""

from services.chassis.postgres import Database
from services.notifier.adapters.postgres.deliveries import DELIVERY_COLUMNS, delivery_of
from services.notifier.ports import DeliveryQuery, ListedDelivery

_SELECT_PAGE = f"""
SELECT {DELIVERY_COLUMNS} FROM deliveries
WHERE tenant = current_tenant()
  AND ($1::text[] IS NULL OR state = ANY ($1))
  AND ($2 = '' OR channel = $2)
  AND ($3 = '' OR alert_id = $3)
  AND ($4 = '' OR incident_id = $4)
  AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $7
"""  # noqa: S608 - nothing but column names is put in


class PostgresDeliveryLog:
    """Reads the table `deliveries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, query: DeliveryQuery) -> list[ListedDelivery]:
        states = [state.value for state in query.states] or None
        create_time, last_id = query.after or (None, None)
        rows = await self._database.fetch(
            _SELECT_PAGE,
            states,
            query.channel,
            query.alert_id,
            query.incident_id,
            create_time,
            last_id,
            query.limit,
        )
        return [ListedDelivery(delivery=delivery_of(row), update_time=row["updated_at"]) for row in rows]
