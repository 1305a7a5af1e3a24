"""Notice that a client's password or certificates have changed."""

import time
from pathlib import Path
from typing import Protocol

import structlog

from services.chassis.secret_files import files_digest
from services.chassis.settings import KafkaSettings

log = structlog.get_logger()

_INTERVAL_SECONDS = 1.0


class HasLogin(Protocol):
    """A client of Kafka."""

    def set_sasl_credentials(self, username: str, password: str, /) -> object:
        """Use these from the next connection on."""
        ...


class LoginWatch:
    """Looks once a second whether the login of a client is still the present one; call it on the client's thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        names = (settings.kafka_ca, settings.kafka_certificate, settings.kafka_key)
        self._files = [Path(name) for name in names if name]
        self._password = settings.kafka_sasl_password.reveal()
        self._digest = files_digest(self._files)
        self._next_at = 0.0

    def needs_new_client(self, client: HasLogin) -> bool:
        """Give the client a changed password; return whether it must be replaced, because its certificates changed."""
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + _INTERVAL_SECONDS
        password = self._settings.kafka_sasl_password.reveal()
        if password != self._password:
            self._password = password
            client.set_sasl_credentials(self._settings.kafka_sasl_user, password)
            log.info("kafka_password_changed", user=self._settings.kafka_sasl_user)
        digest = files_digest(self._files)
        return digest is not None and digest != self._digest

    def accept_files(self) -> None:
        """Record that a client has been made with the present files."""
        self._digest = files_digest(self._files)
