"""Health: one object that grpc.health.v1 and GET /health report."""

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog
from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSnapshot:
    """A service's health at one moment."""

    service: str
    is_serving: bool
    dependencies: dict[str, str]
    # Why it does not serve, or not fully: by dependency, and under "service" while it starts or stops.
    reasons: dict[str, str]

    @property
    def status(self) -> str:
        """SERVING or NOT_SERVING, as in grpc.health.v1; DEGRADED where it serves, and something is DOWN."""
        if not self.is_serving:
            return "NOT_SERVING"
        return "DEGRADED" if "DOWN" in self.dependencies.values() else "SERVING"


class Dependency:
    """One user's view of something that the service needs; use it on the event loop only."""

    def __init__(self, name: str, *, required: bool, changed: Callable[[], None]) -> None:
        self.name = name
        self.required = required
        self.is_up = False
        self.reason = "not reached yet"
        self._was_reported = False
        self._changed = changed

    def up(self) -> None:
        """Record that it responds."""
        if not self.is_up:
            self.is_up, self.reason = True, ""
            log.info("dependency_recovered", dependency=self.name)
            self._changed()

    def down(self, reason: str) -> None:
        """Record that it does not respond; the reason goes into the log."""
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
        self._subscribers: list[Callable[[], None]] = []
        self._is_ready = False
        self._not_ready_reason = "starting"
        self._failing: dict[str, str] = {}

    def dependency(self, name: str, *, required: bool = True) -> Dependency:
        """Register one user of a dependency; a name is UP when it is up for all of its users."""
        dependency = Dependency(name, required=required, changed=self._notify)
        self._dependencies.append(dependency)
        self._notify()
        return dependency

    def mark_failing(self, work: str, dependency: str) -> None:
        """Show `dependency` as DOWN while background work keeps failing; the service stays SERVING."""
        if self._failing.get(work) != dependency:
            self._failing[work] = dependency
            log.warning("work_failing", work=work, dependency=dependency)
            self._notify()

    def mark_working(self, work: str) -> None:
        """Record that background work succeeds again."""
        if self._failing.pop(work, None) is not None:
            log.info("work_recovered", work=work)
            self._notify()

    def mark_ready(self) -> None:
        """Record that the service has started."""
        self._is_ready = True
        self._notify()

    def mark_stopping(self) -> None:
        """Record that the service takes no more work."""
        self._is_ready, self._not_ready_reason = False, "stopping"
        self._notify()

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Call `subscriber` after each change."""
        self._subscribers.append(subscriber)

    def snapshot(self) -> HealthSnapshot:
        """Return the health at this moment."""
        states = {dependency.name: "UP" for dependency in self._dependencies}
        reasons = {} if self._is_ready else {"service": self._not_ready_reason}
        for dependency in self._dependencies:
            if not dependency.is_up:
                reasons.setdefault(dependency.name, dependency.reason)
        for work, name in self._failing.items():
            reasons.setdefault(name, f"{work} fails again and again")
        states |= dict.fromkeys(reasons.keys() - {"service"}, "DOWN")
        required_up = all(dependency.is_up for dependency in self._dependencies if dependency.required)
        is_serving = self._is_ready and required_up
        return HealthSnapshot(service=self.service, is_serving=is_serving, dependencies=states, reasons=reasons)

    def _notify(self) -> None:
        for subscriber in self._subscribers:
            subscriber()


# The first that an error is an instance of.
_CONNECTION_WORDS: Mapping[type[BaseException], str] = {
    TimeoutError: "does not answer in time",
    ConnectionRefusedError: "nothing listens at its address",
    socket.gaierror: "its host name is not found",
    ssl.SSLCertVerificationError: "its certificate is not trusted",
    ssl.SSLError: "TLS with it fails",
    ConnectionError: "the connection was closed",
}


def words_of_connection_error(
    error: BaseException, own: Mapping[type[BaseException], str] = MappingProxyType({})
) -> str:
    """Return in words why a server is not reached, as people read it behind the server's name.

    `own` has the words of its client's errors, which come first.
    """
    words = (words for kind, words in (*own.items(), *_CONNECTION_WORDS.items()) if isinstance(error, kind))
    return next(words, "is not reached")


def observe_dependencies(health: Health) -> None:
    """Report of each dependency whether it is up."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for name, state in health.snapshot().dependencies.items():
            yield Observation(int(state == "UP"), {"dependency": name})

    telemetry.meter(__name__).create_observable_gauge(
        "tocsin.dependency.up",
        [observe],
        description="Whether the service reaches what it uses: 1 or 0, as in /health.",
    )
