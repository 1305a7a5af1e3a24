"""The demo's scenario, beside whatever else the same system is used for."""

from typing import Any, Final

from cli.demo.scenario import missing_results
from cli.demo.steps import DemoResult
from stack.testing import fresh_name
from tests.e2e.event_times import scenario_batches
from tests.e2e.world import World


class Scenario:
    """Events of services of its own, and what has come of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._suffix: Final = f"-{fresh_name()}"
        self._former = {alert["id"] for alert in world.alerts()}
        self.batches: Final = [
            [{**event, "service": event["service"] + self._suffix} for event in batch] for batch in scenario_batches()
        ]

    def alerts(self) -> list[Any]:
        """Return the alerts of these services."""
        return [alert for alert in self._world.alerts() if self._is_own(alert)]

    def new_alerts(self) -> list[Any]:
        """Return all alerts since the scenario was made, whatever they are of."""
        return [alert for alert in self._world.alerts() if alert["id"] not in self._former]

    def results(self) -> DemoResult:
        """Return its alerts as the demo names them, and all deliveries but those of other alerts."""
        # An alert is stored before it is delivered: read later, it is there.
        deliveries, alerts = self._world.deliveries(), self._world.alerts()
        others = {alert["id"] for alert in alerts if not self._is_own(alert)}
        return DemoResult(
            alerts=[
                {**alert, "resource": alert["resource"].removesuffix(self._suffix)}
                for alert in alerts
                if self._is_own(alert)
            ],
            deliveries=[one for one in deliveries if one["alert"] not in others],
        )

    def is_delivered(self) -> bool:
        """Return whether each of its alerts has reached all its channels."""
        results = self.results()
        return not missing_results(results.alerts, results.deliveries)

    def _is_own(self, alert: Any) -> bool:
        return bool(alert["resource"].endswith(self._suffix))
