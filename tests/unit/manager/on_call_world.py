"""OnCallService on a store in memory."""

from collections.abc import Awaitable
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from services.chassis.failures import InvalidRequest
from services.manager.adapters.tenant_caches import OnCallCache
from services.manager.core.on_call_records import OnCallSnapshot
from services.manager.rpc.on_call import OnCallRpc
from services.manager.rpc.on_call_commands import OnCallCommands
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryOnCallReader
from tests.fakes.routing import FakeReceivers
from tests.fakes.transitions import NOW
from tocsin.oncall.v1 import on_call_service_pb2 as pb

FILE: dict[str, Any] = {
    "people": [
        {"name": "ann", "displayName": "Ann", "receivers": ["ann-pager", "mail"], "timeZone": "Europe/Berlin"},
        {"name": "ben", "receivers": ["ben-pager"]},
    ],
    "schedules": [
        {
            "name": "payments",
            "timeZone": "Europe/Berlin",
            "layers": [
                {"name": "week", "people": ["ann", "ben"], "rotation": "WEEKLY", "startTime": "2025-12-29T09:00:00"},
                {
                    "name": "nights",
                    "people": ["ben"],
                    "rotation": "CUSTOM",
                    "turnLength": "43200s",
                    "startTime": "2026-01-01T00:00",
                    "endTime": "2026-02-01T00:00:00",
                    "hours": [{"weekdays": ["FRIDAY", "MONDAY"], "start": "22:00", "end": "24:00"}],
                },
            ],
        }
    ],
    "policies": [
        {
            "name": "urgent",
            "steps": [
                {"schedules": ["payments"], "minSeverity": "HIGH", "hours": [{"start": "09:00", "end": "17:00"}]},
                {"delay": "300s", "people": ["ann"], "untilAcknowledged": True},
            ],
            "fallbackReceivers": ["duty"],
        }
    ],
}


class World:
    """The service, and what it is served from."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock(NOW)
        self.receivers = FakeReceivers("ann-pager", "mail", "ben-pager", "duty", "x")
        self.ids = iter(f"override-{n}" for n in range(9))
        self.cache = OnCallCache(MemoryOnCallReader(self.store))
        commands = OnCallCommands(self.store, self.clock, lambda: next(self.ids), self.cache, self.receivers)
        self.rpc = OnCallRpc(commands, self.cache, self.clock)

    async def apply(self, **changed: Any) -> pb.ApplyOnCallResponse:
        return await self.rpc.ApplyOnCall(ParseDict(changed or FILE, pb.ApplyOnCallRequest()), None)

    @property
    def stored(self) -> OnCallSnapshot:
        return self.store.tables.on_call


async def refused(call: Awaitable[object]) -> list[str]:
    """Return the fields that a refusal names."""
    with pytest.raises(InvalidRequest) as found:
        await call
    return [violation.field for violation in found.value.violations]
