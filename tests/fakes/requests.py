"""The calls that had a request id, in memory."""

from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.request_ids import REQUEST_RETENTION


@dataclass(slots=True)
class MemoryRequests:
    """Time, digest and response of each call, by request id."""

    rows: dict[str, tuple[datetime, str, bytes]] = field(default_factory=dict)

    async def insert(self, request_id: str, digest: str, *, now: datetime) -> tuple[str, bytes] | None:
        if request_id in self.rows:
            time, first_digest, response = self.rows[request_id]
            if time >= now - REQUEST_RETENTION:
                return first_digest, response
        self.rows[request_id] = now, digest, b""
        return None

    async def update_response(self, request_id: str, response: bytes) -> None:
        time, digest, _ = self.rows[request_id]
        self.rows[request_id] = time, digest, response
