"""URLs of servers: several hosts, IPv6 among them, on every release of Python."""

import pytest

from services.chassis.server_urls import split_server_url


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("postgresql://u:p@h1:1,[::1]:2/d?x=y", "u:p@h1:1,[::1]:2"),
        ("rediss+sentinel://u:p@h1,[::1]:7/main", "u:p@h1,[::1]:7"),
        ("redis://[::1],[::2]:7", "[::1],[::2]:7"),
        ("redis://h", "h"),
        ("postgresql:///d", ""),
        ("nothing", ""),
    ],
)
def test_the_hosts_are_left_as_they_are(url: str, netloc: str) -> None:
    parts = split_server_url(url)
    assert parts.netloc == netloc
    assert parts.geturl() == url or not netloc


def test_the_other_parts_are_those_of_the_url() -> None:
    parts = split_server_url("postgresql://u%20v:p@h1:1,[::1]:2/d?x=//y")
    assert (parts.scheme, parts.username, parts.password) == ("postgresql", "u%20v", "p")
    assert (parts.path, parts.query) == ("/d", "x=//y")
