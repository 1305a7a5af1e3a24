"""Time zones by their names."""

import pytest

from services.domain.time_zones import time_zone


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"])
def test_a_zone_of_the_database_is_found(name: str) -> None:
    found = time_zone(name)
    assert found is not None
    assert found.key == name


@pytest.mark.parametrize(
    "name", ["", "Mars/Base", "Europe", "../etc/passwd", "/etc/passwd", "UTC\0", "a" * 5000, "zone.tab"]
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert time_zone(name) is None


@pytest.mark.parametrize("name", ["localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin"])
def test_what_differs_between_machines_is_none(name: str) -> None:
    assert time_zone(name) is None
