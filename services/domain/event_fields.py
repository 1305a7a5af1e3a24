"""What the fields of a log event may hold, and how values are read that people write there."""

import re
from typing import Final

# Characters.
MAX_SERVICE: Final = 256
MAX_HOST: Final = 256
MAX_RECORD_ID: Final = 128
MAX_ATTRIBUTE_KEY: Final = 128
MAX_ATTRIBUTE_VALUE: Final = 1024

MIN_STATUS: Final = 100
MAX_STATUS: Final = 599
TRACE_ID_DIGITS: Final = 32

DEFAULT_MAX_ATTRIBUTES: Final = 32

# Milliseconds in each unit that a duration may have.
MILLISECONDS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}

_TRACE_ID = re.compile("(?:[0-9a-f]{16}){1,2}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def normalized_trace_id(text: str) -> str | None:
    """Return a trace id of 64 or 128 bits as 32 digits in lower case; None when it is none.

    It may be in any case and have dashes, as a UUID has; 64 bits are padded with zeros.
    """
    digits = text.replace("-", "").lower()
    return digits.zfill(TRACE_ID_DIGITS) if _TRACE_ID.fullmatch(digits) else None


def without_surrogates(text: str) -> str:
    """Return the string with a replacement character for each half of a surrogate pair, which UTF-8 cannot hold."""
    return _SURROGATE.sub("\ufffd", text)
