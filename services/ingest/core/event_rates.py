"""How many events a second each tenant may send: what is beyond that is paid off before the next call is taken.

A call is let in or refused before anything of it is read, so its events are charged afterwards: a tenant that has sent
more than a second's worth at once waits until its rate has made up for it. What it does costs nobody else anything.
"""

from typing import Final

from services.domain.tenants import TenantLimits

# So much may come at once.
_BURST_SECONDS: Final = 1.0


class EventRates:
    """What each tenant with a limit has used; times are those of one clock that never goes back."""

    def __init__(self, limits: TenantLimits) -> None:
        self._limits = limits
        # Until which time the events of each tenant last at its rate.
        self._used_until: dict[str, float] = {}

    def limit_of(self, tenant: str) -> int:
        """Return how many events a second a tenant may send; 0: any number."""
        return self._limits.of(tenant)

    def wait(self, tenant: str, now: float) -> float:
        """Return after how many seconds the tenant may send again; 0: now."""
        return max(0.0, self._used_until.get(tenant, now) - now - _BURST_SECONDS)

    def charge(self, tenant: str, events: int, now: float) -> None:
        """Count events that are sent to Kafka."""
        if limit := self._limits.of(tenant):
            self._used_until[tenant] = max(self._used_until.get(tenant, now), now) + events / limit
