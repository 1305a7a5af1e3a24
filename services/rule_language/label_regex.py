"""Regular expressions over the values of labels: RE2, on whole values, in time proportional to their length."""

import functools
from collections.abc import Callable

import re2

from services.domain.matchers import quote

# Instructions; each costs memory as long as the expression is kept, and time when it is compiled.
_MAX_PROGRAM = 4096
_MAX_MEMORY = 1 << 20
_TOO_LARGE = "the pattern is too large: repetitions such as {1000} and classes such as \\pL make it so"


# Many matchers are written alike, and each of them is read again and again.
@functools.lru_cache(maxsize=1024)
def compile_regex(pattern: str) -> Callable[[str], bool]:
    """Return whether a whole value matches, as a function. Raises ValueError when the pattern is not allowed."""
    options = re2.Options()
    options.max_mem, options.log_errors, options.never_capture = _MAX_MEMORY, False, True
    try:
        regex = re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace")
        if "too large" in reason:
            raise ValueError(_TOO_LARGE) from None
        raise ValueError(f"{quote(pattern)} is not a regular expression of RE2: {reason}") from None
    if regex.programsize > _MAX_PROGRAM:
        raise ValueError(_TOO_LARGE)
    return lambda value: regex.fullmatch(value.encode()) is not None
