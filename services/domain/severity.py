"""The severity of an alert."""

from enum import IntEnum


class Severity(IntEnum):
    """Ordered; the numbers are those of the contract."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4
