"""The level of a log event."""

from enum import IntEnum


class Level(IntEnum):
    """Ordered; the numbers are those of the contract."""

    TRACE = 1
    DEBUG = 2
    INFO = 3
    WARN = 4
    ERROR = 5
    FATAL = 6
