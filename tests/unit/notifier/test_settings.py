"""How long another instance waits before it takes over a delivery."""

from datetime import timedelta

import pytest

from services.chassis.settings import SettingsError, load_settings
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.routing import Routes
from services.notifier.settings import PREFIX, Settings, lease_of

REQUIRED = {
    "NOTIFIER_BROKERS": "kafka:9092",
    "NOTIFIER_DATABASE_URL": "postgresql://u@h:1/d",
    "NOTIFIER_ROUTES": "routes.yaml",
}
LEASE = timedelta(seconds=30)


def test_a_lease_that_ends_before_an_attempt_is_refused() -> None:
    with pytest.raises(SettingsError, match="NOTIFIER_LEASE must be at least 10s"):
        load_settings(Settings, PREFIX, REQUIRED | {"NOTIFIER_LEASE": "1s"})
    assert load_settings(Settings, PREFIX, REQUIRED | {"NOTIFIER_LEASE": "10s"}).lease == timedelta(seconds=10)


@pytest.mark.parametrize(("timeout", "expected"), [(5, 30), (25, 30), (26, 31), (60, 65)])
def test_a_lease_is_longer_than_the_longest_attempt(timeout: int, expected: int) -> None:
    specs = {name: channel(name, seconds) for name, seconds in (("a", 1), ("b", timeout))}
    assert lease_of(LEASE, Routes(routes=(), channels=specs)) == timedelta(seconds=expected)


def test_without_channels_a_lease_is_as_it_is_set() -> None:
    assert lease_of(LEASE, Routes(routes=(), channels={})) == LEASE


def channel(name: str, seconds: int) -> ChannelSpec:
    settings = SlackSettings(url="https://slack.example/hook")
    return ChannelSpec(name=name, settings=settings, timeout=timedelta(seconds=seconds))
