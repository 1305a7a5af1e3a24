"""Until when the certificates that the settings name are valid: the service's own, and those for its servers.

Files are read at each scrape if they have changed. A file that cannot be read, or a certificate whose key is another's,
changes nothing: connections go on with what they had, and so does the metric.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opentelemetry.metrics import CallbackOptions, Observation

from services.chassis import telemetry
from services.chassis.pem import is_key_of, read_certificates, read_private_key

_CERTIFICATE, _CA, _KEY = "_certificate", "_ca", "_key"
_OWN_AUTHORITY = "tls_ca"
_Version = tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class WatchedCertificate:
    """The certificates in one file, by the setting that names it, and the key that goes with them."""

    setting: str
    paths: tuple[Path, ...]
    _version: _Version = ()
    _expires: datetime | None = None

    def expires(self) -> datetime | None:
        """Return until when the file is of use; None where it never could be read.

        Of several authorities of our own the first that expires counts, since each is there for somebody; of those for
        a server, which may be all that the machine knows, the last.
        """
        try:
            version = tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in map(Path.stat, self.paths))
            if version != self._version:
                self._expires, self._version = self._read(), version
        except (OSError, ValueError):
            pass
        return self._expires

    def _read(self) -> datetime:
        found, *keys = (path.read_bytes() for path in self.paths)
        certificates = read_certificates(found)
        ends = [each.not_valid_after_utc for each in certificates]
        if not self.setting.endswith(_CA):
            if not all(is_key_of(read_private_key(key), certificates[0]) for key in keys):
                raise ValueError("the key is not the certificate's")
            return ends[0]
        return min(ends) if self.setting == _OWN_AUTHORITY else max(ends)


def observe_expiry(settings: object) -> None:
    """Report until when each certificate that these settings, or the settings in them, name is valid."""
    watched = list(watched_certificates(settings))

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for each in watched:
            if (expires := each.expires()) is not None:
                yield Observation(expires.timestamp(), {"certificate": each.setting})

    telemetry.meter(__name__).create_observable_gauge(
        "tocsin.certificate.expiry_timestamp",
        callbacks=[observe],
        unit="s",
        description="When the certificate expires, in seconds since the epoch, by the setting that names its file.",
    )


def watched_certificates(settings: object) -> Iterator[WatchedCertificate]:
    """Yield what the settings `…_certificate` and `…_ca` name, also of settings in these; empty ones name nothing."""
    if not dataclasses.is_dataclass(settings):
        return
    for name in (each.name for each in dataclasses.fields(settings)):
        value = getattr(settings, name)
        if name.endswith((_CERTIFICATE, _CA)) and isinstance(value, str) and value:
            key = getattr(settings, name.removesuffix(_CERTIFICATE) + _KEY, "") if name.endswith(_CERTIFICATE) else ""
            yield WatchedCertificate(name, tuple(map(Path, filter(None, (value, key)))))
        else:
            yield from watched_certificates(value)
