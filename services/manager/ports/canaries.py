"""Where canaries are sent."""

from typing import Protocol

from services.manager.core.canary import Canary


class CanaryIngest(Protocol):
    """Takes the canary's event, as it takes those of clients."""

    async def send(self, canary: Canary) -> None:
        """Send a canary. Raises Failure when it is not accepted."""
