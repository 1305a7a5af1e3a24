"""When an event happened, from what people write."""

import re
from datetime import date
from decimal import Decimal, InvalidOperation

# Seconds since 1970, and nanoseconds.
Moment = tuple[int, int]

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86_400
_BILLION = 1_000_000_000
_LAST_HOUR, _LAST_MINUTE, _LEAP_SECOND = 23, 59, 60
# A number of seconds, milliseconds, microseconds or nanoseconds is told apart by its size, from the year 1973 on.
_LEAST = 100_000_000
# How many of each make a second.
_UNITS = (1, 1000, 1_000_000, _BILLION)


def moment(text: str) -> Moment | None:
    """Read a time as RFC 3339 has it; a leap second is the second after 59. None when it is no such time."""
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, zone_hours, zone_minutes = found.groups()[6:]
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


def moment_of_number(text: str) -> Moment | None:
    """Read a count of seconds, milliseconds, microseconds or nanoseconds since 1970; None when it is no such count."""
    # Python reads more than the digits of ASCII, and lets them stand apart.
    if not text.isascii() or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    for unit in _UNITS if number.is_finite() else ():
        # Compared before anything is calculated: the number may have any size.
        if _LEAST * unit <= number < 1000 * _LEAST * unit:
            return divmod(int(number * _BILLION / unit), _BILLION)
    return None
