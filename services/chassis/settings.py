"""Settings: one frozen dataclass per service, read once from the environment.

A service writes

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings:
        process: ProcessSettings = part(listen="127.0.0.1:50051", admin_listen="127.0.0.1:9101")
        kafka: KafkaSettings = part()
        max_batch: int = setting("Maximum number of events in a batch.", default=10_000)

and `load_settings(Settings, "INGEST_", environ)` reads INGEST_LISTEN, INGEST_BROKERS, INGEST_MAX_BATCH and so on: the
fields of a nested dataclass have the same prefix. `part(...)` sets this service's own defaults for them.
"""

import dataclasses
import socket
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

from services.chassis.secret_files import Secret
from services.chassis.server_settings import (
    KafkaSettings,
    PostgresSettings,
    RedisSettings,
    address,
    addresses,
    positive,
    split_address,
)
from services.chassis.settings_loader import (
    RenamedSetting,
    SettingDoc,
    SettingsError,
    describe_settings,
    load_settings,
    part,
    renamed_settings,
    setting,
)

__all__ = [
    "KafkaSettings",
    "PostgresSettings",
    "ProcessSettings",
    "RedisSettings",
    "RenamedSetting",
    "Secret",
    "SettingDoc",
    "SettingsError",
    "TlsSettings",
    "address",
    "address_or_nothing",
    "addresses",
    "check_authentication",
    "describe_settings",
    "is_loopback",
    "load_settings",
    "part",
    "renamed_settings",
    "setting",
    "socket_or_nothing",
    "split_address",
]

# The kernel's limit, less the zero at the end.
MAX_SOCKET_PATH_BYTES = 107
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_AUTHENTICATION = ("off", "required")


def address_or_nothing(value: str) -> None:
    """Check that a setting is host:port or empty."""
    if value:
        address(value)


def check_socket(value: str) -> None:
    """Check that a setting is a path at which a Unix socket can be."""
    if not value.startswith("/") or len(value.encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"must be an absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes")


def socket_or_nothing(value: str) -> None:
    """Check that a setting is a path at which a Unix socket can be, or empty."""
    if value:
        check_socket(value)


def _level(value: str) -> None:
    if value not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}")


def check_authentication(value: str) -> None:
    """Check that a setting says whether callers must say who they are."""
    if value not in _AUTHENTICATION:
        raise ValueError(f"must be one of {', '.join(_AUTHENTICATION)}")


def is_loopback(value: str) -> bool:
    """Return whether host:port is an address that only this machine reaches."""
    host, _ = split_address(value)
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """By what a service proves who it is, and whom it trusts: all three files, or none for plaintext."""

    tls_certificate: str = setting(
        "Path of the certificate, in PEM, that callers see and that is shown to the gateway; empty: plaintext.",
        default="",
    )
    tls_key: str = setting("Path of its key, in PEM.", default="")
    tls_ca: str = setting(
        "Path of the authorities' certificates by which callers and the gateway are known.", default=""
    )

    def __post_init__(self) -> None:
        """Refuse a part of the files."""
        paths = {"tls_certificate": self.tls_certificate, "tls_key": self.tls_key, "tls_ca": self.tls_ca}
        missing = [name for name, path in paths.items() if not path]
        if 0 < len(missing) < len(paths):
            raise ValueError(f"tls_certificate, tls_key and tls_ca go together, {' and '.join(missing)} is not set")

    @property
    def is_on(self) -> bool:
        """Return whether connections are encrypted, and callers known by their certificates."""
        return bool(self.tls_certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Where a service listens, its name, and how it stops."""

    listen: str = setting("Address of the gRPC server, host:port; port 0 takes a free one.", check=address)
    admin_listen: str = setting("Address of /metrics and /health over HTTP, host:port.", check=address)
    instance: str = setting(
        "Name of this instance, unique among the instances of the service.",
        default_factory=socket.gethostname,
        shown="the host name",
    )
    authentication: str = setting(
        "Whether callers must say who they are: off, or required, with an API key, a token or a client certificate.",
        default="off",
        check=check_authentication,
    )
    max_streams: int = setting(
        "Maximum number of streams, such as watches, that one caller may have open at this instance; services of the"
        " system may have any number. One more is answered with RESOURCE_EXHAUSTED.",
        default=500,
    )
    otlp: str = setting(
        "Where traces go, host:port of an OTLP gRPC receiver; empty: nowhere.", default="", check=address_or_nothing
    )
    log_level: str = setting(
        f"Lowest level of log lines that are written: {', '.join(_LEVELS)}.", default="INFO", check=_level
    )
    shutdown_delay: timedelta = setting(
        "How long calls are still taken after health is NOT_SERVING, so that Envoy sees it first.",
        default=timedelta(milliseconds=500),
        former="notice",
    )
    drain: timedelta = setting("Longest time that a shutdown may take.", default=timedelta(seconds=10), check=positive)
    tls: TlsSettings = dataclasses.field(default_factory=TlsSettings)
    plaintext_listen: str = setting(
        "A second address of the gRPC server, without TLS, while a system moves from plaintext to TLS; empty: none.",
        default="",
        check=address_or_nothing,
    )
    plaintext_admin_listen: str = setting(
        "A second address of /metrics and /health, without TLS, for the same time; empty: none.",
        default="",
        check=address_or_nothing,
    )

    def __post_init__(self) -> None:
        """Refuse to be reached from other machines by callers that nobody knows."""
        if self.max_streams < 1:
            raise ValueError(f"max_streams must be at least 1, got {self.max_streams}")
        if (self.plaintext_listen or self.plaintext_admin_listen) and not self.tls.is_on:
            raise ValueError("plaintext_listen and plaintext_admin_listen are for where tls_certificate is set")
        if self.tls.is_on and (self.authentication == "required" or self.plaintext_listen):
            return
        for name, value in (("listen", self.listen), ("admin_listen", self.admin_listen)):
            if not is_loopback(value):
                raise ValueError(
                    f'{name} must be an address that only this machine reaches, such as 127.0.0.1, found "{value}":'
                    " for any other set authentication=required, tls_certificate, tls_key and tls_ca"
                )
