"""Time zones by their names in the IANA database."""

from zoneinfo import ZoneInfo

# What an operating system keeps beside the zones: its own one, which is another one elsewhere, and a placeholder.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})
# Copies, the second with clocks that count leap seconds: by now 27 seconds behind.
_COPIES = ("posix/", "right/")


def time_zone(name: str) -> ZoneInfo | None:
    """Return the zone of this name; None where there is none, or it would not be the same one on every machine."""
    if name in _NO_ZONES or name.startswith(_COPIES):
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None
