"""TLS towards a server: its certificate and host name are always checked."""

import ssl
from pathlib import Path

import structlog

from services.chassis.secret_files import files_digest

log = structlog.get_logger()


class ClientTls:
    """The TLS context of a client; made again when its files change, and kept while they do not fit together."""

    def __init__(self, *, ca: str, certificate: str = "", key: str = "") -> None:
        """Read nothing yet. Without `ca` the machine's own certificates are used."""
        self._ca, self._certificate, self._key = ca, certificate, key
        self._context: ssl.SSLContext | None = None
        self._digest: bytes | None = None
        self._refused: bytes | None = None

    def digest(self) -> bytes | None:
        """Return a digest of the files' present contents; None while one cannot be read."""
        return files_digest(Path(path) for path in (self._ca, self._certificate, self._key) if path)

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection. Raises OSError when there never was one."""
        digest = self.digest()
        if self._context is None:
            self._context, self._digest = self._make(), digest
        elif digest not in {None, self._digest, self._refused}:
            try:
                self._context, self._digest, self._refused = self._make(), digest, None
            except OSError as error:
                # A certificate and its key are two files: between the two writes they do not fit.
                self._refused = digest
                log.warning("certificate_refused", path=self._certificate or self._ca, reason=type(error).__name__)
        return self._context

    def _make(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._certificate:
            context.load_cert_chain(self._certificate, self._key)
        return context
