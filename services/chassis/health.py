"""Health: one object from which grpc.health.v1 and GET /health answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A service's health at one moment."""

    service: str
    is_serving: bool
    dependencies: dict[str, str]

    @property
    def status(self) -> str:
        """SERVING or NOT_SERVING, as in grpc.health.v1."""
        return "SERVING" if self.is_serving else "NOT_SERVING"


class Dependency:
    """One user's view of something that the service needs; call it on the event loop only."""

    def __init__(self, name: str, *, required: bool, changed: Callable[[], None]) -> None:
        self.name = name
        self.required = required
        self.is_up = False
        self.reason = "not reached yet"
        self._was_reported = False
        self._changed = changed

    def up(self) -> None:
        """Say that it answers."""
        if not self.is_up:
            self.is_up, self.reason = True, ""
            log.info("dependency_recovered", dependency=self.name)
            self._changed()

    def down(self, reason: str) -> None:
        """Say that it does not answer; the reason goes into the log."""
        was_up, self.is_up, self.reason = self.is_up, False, reason
        if was_up or not self._was_reported:
            self._was_reported = True
            log.warning("dependency_lost", dependency=self.name, reason=reason)
            self._changed()


class Health:
    """SERVING exactly while the service is ready and everything it requires is up."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._dependencies: list[Dependency] = []
        self._listeners: list[Callable[[], None]] = []
        self._is_ready = False
        self._failing: dict[str, str] = {}

    def dependency(self, name: str, *, required: bool = True) -> Dependency:
        """Register one user of a dependency; a name is UP when all of its users say so."""
        dependency = Dependency(name, required=required, changed=self._tell)
        self._dependencies.append(dependency)
        self._tell()
        return dependency

    def mark_failing(self, work: str, dependency: str) -> None:
        """Show `dependency` as DOWN while background work keeps failing; calls are served meanwhile as they can be."""
        if self._failing.get(work) != dependency:
            self._failing[work] = dependency
            log.warning("work_failing", work=work, dependency=dependency)
            self._tell()

    def mark_working(self, work: str) -> None:
        """Say that background work succeeds again."""
        if self._failing.pop(work, None) is not None:
            log.info("work_recovered", work=work)
            self._tell()

    def mark_ready(self) -> None:
        """Say that the service has started."""
        self._is_ready = True
        self._tell()

    def mark_stopping(self) -> None:
        """Say that the service takes no more work."""
        self._is_ready = False
        self._tell()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def snapshot(self) -> Snapshot:
        """Return the health of this moment."""
        states: dict[str, str] = {}
        for each in self._dependencies:
            if states.get(each.name) != "DOWN":
                states[each.name] = "UP" if each.is_up else "DOWN"
        states.update(dict.fromkeys(self._failing.values(), "DOWN"))
        required_up = all(each.is_up for each in self._dependencies if each.required)
        return Snapshot(service=self.service, is_serving=self._is_ready and required_up, dependencies=states)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


@asynccontextmanager
async def serving(health: Health, notice: timedelta) -> AsyncIterator[None]:
    """Mark the service ready; on the way out NOT_SERVING first, then time for Envoy to notice. Enter it last."""
    health.mark_ready()
    log.info("service_ready", service=health.service)
    try:
        yield
    finally:
        health.mark_stopping()
        await asyncio.sleep(notice.total_seconds())
