"""What those who follow rules and alerts are given when something goes wrong in between."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest

from services.chassis.backoff import Backoff
from services.chassis.failures import ShuttingDown, StoreUnavailable
from services.chassis.loops import Loop
from services.domain.alert import Life, State
from services.manager.adapters.feeds import alerts as alert_feed
from services.manager.adapters.feeds.alerts import AlertHub
from services.manager.adapters.feeds.rules import LOOK, RuleHub
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter
from tests.fakes.manager import MemoryAlertReader, MemoryRuleReader, MemoryStore
from tests.unit.manager.stories import NOW, START, subject, word


class Flaky:
    """A store whose readers fail as often as they are told to."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.failures = 0

    def ask(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")


class FlakyAlerts(MemoryAlertReader):
    def __init__(self, flaky: Flaky) -> None:
        super().__init__(flaky.store)
        self._flaky = flaky

    async def named(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        self._flaky.ask()
        return await super().named(alert_ids)


class FlakyRules(MemoryRuleReader):
    def __init__(self, flaky: Flaky) -> None:
        super().__init__(flaky.store)
        self._flaky = flaky

    async def revision(self) -> int:
        self._flaky.ask()
        return await super().revision()


def alert(name: str) -> Alert:
    life = Life(state=State.FIRING, last_firing=word().verdict)
    return Alert(id=name, subject=subject(name), life=life, fire_time=START, update_time=NOW)


@pytest.fixture
def flaky() -> Flaky:
    found = Flaky()
    found.store.kept.alerts = {name: alert(name) for name in "abc"}
    return found


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_changed_alert_reaches_who_wants_it(flaky: Flaky) -> None:
    hub = AlertHub(FlakyAlerts(flaky))
    running = asyncio.create_task(Loop(hub.turn, name="alerts").run())
    hub.wake("a")
    async with hub.following(AlertFilter(resource="b")) as following:
        assert hub.followers == 1
        hub.wake("a,b")
        await following.wait()
        assert following.follower.take() == alert("b")
        assert following.follower.take() is None
    assert hub.followers == 0
    await ended(running)


async def test_changes_that_could_not_be_read_make_everybody_look_again(flaky: Flaky) -> None:
    hub = AlertHub(FlakyAlerts(flaky))
    running = asyncio.create_task(Loop(hub.turn, name="alerts").run())
    async with hub.following(AlertFilter()) as following:
        flaky.failures = 1
        hub.wake("a")
        await following.wait()
        assert following.follower.is_behind
    await ended(running)


async def test_too_many_changes_at_once_make_everybody_look_again(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_feed, "_MOST_CHANGED", 2)
    hub = AlertHub(FlakyAlerts(flaky))
    running = asyncio.create_task(Loop(hub.turn, name="alerts").run())
    async with hub.following(AlertFilter()) as following:
        hub.wake("a,b,c")
        await following.wait()
        assert following.follower.is_behind
    await ended(running)


async def test_who_follows_is_sent_away_when_the_instance_stops(flaky: Flaky) -> None:
    alerts, rules = AlertHub(FlakyAlerts(flaky)), RuleHub(FlakyRules(flaky))
    async with alerts.following(AlertFilter()) as following:
        waiting = [asyncio.create_task(following.wait()), asyncio.create_task(rules.after(0))]
        await asyncio.sleep(0)
        alerts.close()
        rules.close()
        for task in waiting:
            with pytest.raises(ShuttingDown):
                await task
    with pytest.raises(ShuttingDown):
        async with alerts.following(AlertFilter()):
            pass


async def test_rules_that_could_not_be_read_are_read_again(flaky: Flaky) -> None:
    hub = RuleHub(FlakyRules(flaky))
    await hub.load()
    flaky.store.kept.revision = 5
    flaky.failures = 1
    loop = Loop(hub.load, name="rules", every=LOOK, backoff=Backoff(most=timedelta(milliseconds=1)))
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(5):
        assert (await hub.after(0)).revision == 5
    await ended(running)
