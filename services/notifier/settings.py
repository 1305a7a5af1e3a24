"""The notifier's settings, and its routes file."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from services.chassis.secret_files import files_digest
from services.chassis.settings import KafkaSettings, PostgresSettings, ProcessSettings, part, setting
from services.chassis.strict_yaml import DocumentError, load_documents
from services.domain.tenants import TenantLimits
from services.notifier.core.channels.fields import References
from services.notifier.core.delivery import RetryPolicy
from services.notifier.core.routes_file import RoutesError, read_routes
from services.notifier.core.routing import Routes
from services.redaction.presets import SECRET_PRESETS
from services.redaction.settings import check_patterns_file, known_presets

log = structlog.get_logger()

PREFIX = "NOTIFIER_"

# A breaker's own timeout is the last resort behind the channel's.
BREAKER_MARGIN = timedelta(seconds=2)
# Longer than an attempt of a channel with the default timeout.
_MIN_LEASE = timedelta(seconds=10)
# For recording the outcome of an attempt.
_RECORDING = timedelta(seconds=3)


def _check_lease(value: timedelta) -> None:
    if value < _MIN_LEASE:
        raise ValueError(
            f"must be at least {_MIN_LEASE.seconds}s: a second instance would send what the first one sends"
        )


def _tenant_limits(text: str) -> None:
    TenantLimits.parse(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How often a delivery is attempted, and when a channel is left alone."""

    max_attempts: int = setting("Attempts at a delivery before it has failed.", default=5)
    retry_base: timedelta = setting("Longest delay before the second attempt.", default=timedelta(milliseconds=500))
    retry_cap: timedelta = setting(
        "Longest delay before any attempt, unless the channel asks to wait.", default=timedelta(seconds=30)
    )
    max_wait: timedelta = setting(
        "How long a notification waits for a channel that asks to wait, before it goes to a fallback. For one more"
        " release NOTIFIER_LONGEST_RETRY_AFTER is read as well.",
        default=timedelta(minutes=5),
        former="longest_retry_after",
    )
    breaker_fail_max: int = setting("Failures in a row that open a channel's breaker.", default=5)
    breaker_first_reset: timedelta = setting(
        "How long a breaker stays open at first, before one attempt shows whether the channel has recovered; after each"
        " attempt that failed, twice as long.",
        default=timedelta(seconds=2),
    )
    breaker_reset: timedelta = setting("Longest time that a breaker stays open.", default=timedelta(seconds=30))

    def __post_init__(self) -> None:
        """Refuse a breaker that never opens or never closes, and a retry policy that never ends."""
        if self.breaker_fail_max < 1 or min(self.breaker_first_reset, self.breaker_reset) <= timedelta(0):
            raise ValueError("breaker_fail_max must be at least 1, breaker_first_reset and breaker_reset more than 0")
        _ = self.retry_policy

    @property
    def retry_policy(self) -> RetryPolicy:
        """Return the same for the core. Raises ValueError."""
        return RetryPolicy(
            max_attempts=self.max_attempts,
            first_delay=self.retry_base,
            max_delay=self.retry_cap,
            max_wait=self.max_wait,
            probe_interval=self.breaker_reset,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    process: ProcessSettings = part(listen="127.0.0.1:50054", admin_listen="127.0.0.1:9104")
    kafka: KafkaSettings = part()
    postgres: PostgresSettings = part()
    manager_target: str = setting(
        "Address of AccessService, host:port, which knows the API keys; asked where AUTHENTICATION is required.",
        default="127.0.0.1:10000",
    )
    delivery: DeliverySettings = part()
    routes: Path = setting("Path of the routes file: channels, and which severity goes to which of them.")
    lease: timedelta = setting(
        "After this time another instance takes over what an instance was about to send; at least 10s, and 5s longer"
        " than the longest timeout of a channel where that is more than is set.",
        default=timedelta(seconds=30),
        check=_check_lease,
    )
    retention: timedelta = setting(
        "How long deliveries are kept after they were delivered; longer than Kafka keeps notifications, or a replay"
        " delivers them again. Deliveries that are PENDING, and those of open alerts and incidents, are always kept.",
        default=timedelta(days=90),
    )
    redact: tuple[str, ...] = setting(
        "Secrets that are masked in notifications before they are sent, some of"
        f" {', '.join(SECRET_PRESETS)}, with commas; empty: none.",
        default=(),
        check=known_presets,
    )
    redact_patterns_file: str = setting(
        "Path of a file with patterns of other secrets, as INGEST_REDACT_PATTERNS_FILE; empty: none.",
        default="",
        check=check_patterns_file,
    )
    tenant_notifications_per_hour: str = setting(
        "How many notifications an hour each tenant may have, and after a comma others for tenants by name:"
        " 120,acme=600; 0: any number. Further ones are held and delivered in bundles; CRITICAL ones are not held.",
        default="0",
        check=_tenant_limits,
    )
    max_batch: int = setting("Most notifications that are read from Kafka at once.", default=200)


class RoutesSource:
    """A routes file as it was at the start, with the present secrets from the files that it refers to."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Read the file. Raises RoutesError with all problems, and no secret in them."""
        self._path, self._environ = path, environ
        self._document = _load_document(path)
        self._files: set[Path] = set()
        self.routes = self._read()
        self._digest = files_digest(sorted(self._files))

    def refresh(self) -> bool:
        """Return whether `routes` are others now, because the content of a file is; keep the last that were right."""
        digest = files_digest(sorted(self._files))
        if digest in {None, self._digest}:
            return False
        self._digest = digest
        try:
            routes = self._read()
        except RoutesError as refused:
            log.warning("secret_file_refused", path=str(self._path), reason="; ".join(refused.problems))
            return False
        has_changed, self.routes = routes != self.routes, routes
        return has_changed

    def _read(self) -> Routes:
        return read_routes(self._document, References(environ=self._environ, read_file=self._read_file))

    def _read_file(self, name: str) -> str:
        path = self._path.parent / name
        self._files.add(path)
        return path.read_text()


def lease_of(lease: timedelta, routes: Routes) -> timedelta:
    """Return how long a lease must be, so that it does not end before the longest attempt of a channel."""
    return max([lease, *(spec.timeout + BREAKER_MARGIN + _RECORDING for spec in routes.channels.values())])


def load_routes(path: Path, environ: Mapping[str, str]) -> Routes:
    """Read the routes file and what it refers to. Raises RoutesError with all problems, and no secret in them."""
    return RoutesSource(path, environ).routes


def _load_document(path: Path) -> object:
    try:
        documents = load_documents(path.read_text())
    except OSError as error:
        raise RoutesError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeError:
        raise RoutesError([f"{path}: the file is not text in UTF-8"]) from None
    except DocumentError as error:
        raise RoutesError([f"{path}: {error}"]) from None
    if len(documents) > 1:
        raise RoutesError([f"{path}: holds {len(documents)} documents; there must be one"])
    return documents[0] if documents else None
