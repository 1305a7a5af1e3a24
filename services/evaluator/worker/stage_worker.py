"""The loop that both stages have."""

from abc import ABC, abstractmethod

from services.evaluator.ports import Rules


class StageWorker(ABC):
    """Does turn after turn until it is stopped, and then a last step."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._is_stopping = False

    def stop(self) -> None:
        """End after this turn."""
        self._is_stopping = True

    def is_stopping(self) -> bool:
        """Return whether this turn is the last."""
        return self._is_stopping

    async def run(self) -> None:
        """Work until stopped. Before rules are loaded no record is fetched: no rule would count it."""
        await self._rules.loaded()
        while not self._is_stopping:
            await self.turn()
        await self.finish()

    @abstractmethod
    async def turn(self) -> None:
        """Fetch once, process what was fetched, and commit if it is time."""

    @abstractmethod
    async def finish(self) -> None:
        """Commit what is done."""
