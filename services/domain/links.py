"""Addresses that people are shown as links."""

import re
from typing import Final
from urllib.parse import urlsplit

MAX_LINK: Final = 1000
EXPECTED_LINK: Final = f"an http or https address of up to {MAX_LINK} characters without spaces and quotes"

# Without spaces, control characters and what ends an address in some channel.
_ADDRESS = re.compile(r"https?://[!#-;=?-\[\]_a-z~]+")


def is_link(text: str) -> bool:
    """Return whether the text is an http or https address of ASCII, without spaces and quotes, that has a host."""
    if len(text) > MAX_LINK or _ADDRESS.fullmatch(text) is None:
        return False
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False
