"""When an event happened, read from what people write."""

import re
from datetime import date
from decimal import Decimal, InvalidOperation

# Seconds since 1970, and nanoseconds.
EpochTime = tuple[int, int]

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86_400
_BILLION = 1_000_000_000
_LAST_HOUR, _LAST_MINUTE, _LEAP_SECOND = 23, 59, 60
_MIN_SECONDS = 100_000_000
# How many of each make a second.
_UNITS = (1, 1000, 1_000_000, _BILLION)


def parse_rfc3339(text: str) -> EpochTime | None:
    """Return a time in the form of RFC 3339, None when it is none; a leap second is the second after 59."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, zone_hours, zone_minutes = match.groups()[6:]
    hours_ahead, minutes_ahead = int(zone_hours or 0), int(zone_minutes or 0)
    if max(hour, hours_ahead) > _LAST_HOUR or max(minute, minutes_ahead) > _LAST_MINUTE or second > _LEAP_SECOND:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    seconds = days * _DAY + hour * 3600 + minute * 60 + second
    ahead = hours_ahead * 3600 + minutes_ahead * 60
    seconds += ahead if sign == "-" else -ahead
    return seconds, int(fraction.ljust(9, "0")) if fraction else 0


def parse_epoch(text: str) -> EpochTime | None:
    """Return the time that is so many seconds, milliseconds, microseconds or nanoseconds after 1970.

    The size tells the unit. None when the number is no time between the years 1973 and 5138.
    """
    # Python also reads digits of other scripts, and underscores between them.
    if not text.isascii() or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    for unit in _UNITS if number.is_finite() else ():
        # Compared before anything is calculated: the number may have any size.
        if _MIN_SECONDS * unit <= number < 1000 * _MIN_SECONDS * unit:
            return divmod(int(number * _BILLION / unit), _BILLION)
    return None
