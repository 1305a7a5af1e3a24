"""Split the URL of a server that may name several hosts."""

import re
from urllib.parse import SplitResult, urlsplit

_AUTHORITY = re.compile(r"(?<=://)[^/?#]*")


def split_server_url(url: str) -> SplitResult:
    """Return the parts of a URL; its `netloc` may name several hosts with commas, which `urlsplit` alone refuses.

    Newer releases of Python take brackets for one IPv6 host only.
    """
    found = _AUTHORITY.search(url)
    if found is None:
        return urlsplit(url)
    return urlsplit(url[: found.start()] + url[found.end() :])._replace(netloc=found[0])
