"""Work that is done for each tenant by itself, and in turns, so that none waits long for what another one has to do."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

from services.chassis.tenants import as_tenant
from services.manager.ports.feeds import TenantDirectory

_Turn: TypeAlias = Callable[[], Awaitable[timedelta | None]]


class EachTenant:
    """Does a turn for each tenant, one after the other; a worker with a memory of its own is made for each."""

    def __init__(self, tenants: TenantDirectory, make: Callable[[], _Turn]) -> None:
        self._tenants = tenants
        self._make = make
        self._turns: dict[str, _Turn] = {}

    async def turn(self) -> timedelta | None:
        """Do each tenant's turn, whatever becomes of the others'; return the shortest pause that one asks for.

        Raises the first failure when all have had their turn.
        """
        pauses: list[timedelta] = []
        failures: list[Exception] = []
        for tenant in self._tenants.known:
            try:
                with as_tenant(tenant):
                    pause = await self._turn_of(tenant)()
            except Exception as failure:  # noqa: BLE001  (raised below)
                failures.append(failure)
            else:
                pauses += [] if pause is None else [pause]
        if failures:
            raise failures[0]
        return min(pauses, default=None)

    def _turn_of(self, tenant: str) -> _Turn:
        if tenant not in self._turns:
            self._turns[tenant] = self._make()
        return self._turns[tenant]
