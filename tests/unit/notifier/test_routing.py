import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.notifier.core.channel import ChannelSpec, PagerDutySettings, SlackSettings
from services.notifier.core.delivery import State
from services.notifier.core.routing import Reason, Route, Routes, StandIn, audience, delivery_id, stand_ins
from tests.fakes.notifier import message

CHANNELS = ("pagerduty", "slack", "email", "webhook")
ROUTES = Routes(
    channels={},
    routes=(
        Route(
            severities=frozenset({Severity.CRITICAL}),
            channels=("pagerduty",),
            labels={"team": frozenset({"payments", "billing"})},
        ),
        Route(severities=frozenset({Severity.CRITICAL, Severity.HIGH}), channels=("slack", "email")),
    ),
)

fallbacks = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from(CHANNELS), max_size=3).map(tuple) for name in CHANNELS}
)
states = st.dictionaries(st.sampled_from(CHANNELS), st.sampled_from(State), min_size=1)


@pytest.mark.parametrize(
    ("severity", "labels", "expected"),
    [
        pytest.param(
            Severity.CRITICAL, {"team": "billing"}, ("pagerduty",), id="the first route that takes it decides"
        ),
        pytest.param(Severity.CRITICAL, {"team": "web"}, ("slack", "email"), id="another value of the label"),
        pytest.param(Severity.CRITICAL, {}, ("slack", "email"), id="no label at all"),
        pytest.param(Severity.HIGH, {"team": "billing"}, ("slack", "email"), id="another severity"),
    ],
)
def test_the_first_route_that_takes_an_alert_decides(
    severity: Severity, labels: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert ROUTES.channels_of(severity, labels) == (expected, Reason.ROUTED)


def test_an_alert_that_no_route_takes_goes_nowhere_and_says_so() -> None:
    assert ROUTES.channels_of(Severity.LOW, {}) == ((), Reason.NO_ROUTE)


def test_a_delivery_has_the_same_id_each_time_it_is_planned() -> None:
    notification = message().notification_id
    assert delivery_id(notification, "slack") == delivery_id(notification, "slack")
    assert delivery_id(notification, "slack") != delivery_id(notification, "email")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param({"slack": State.FAILED}, [("email", "slack")], id="the first of the chain"),
        pytest.param({"slack": State.FAILED, "email": State.DELIVERED}, [], id="somebody of the chain has told it"),
        pytest.param({"slack": State.FAILED, "email": State.PENDING}, [], id="somebody of the chain is about to"),
        pytest.param(
            {"slack": State.FAILED, "email": State.FAILED}, [("webhook", "slack")], id="the next of the chain"
        ),
        pytest.param({"slack": State.FAILED, "email": State.FAILED, "webhook": State.FAILED}, [], id="nobody is left"),
        pytest.param({"slack": State.DELIVERED}, [], id="nothing failed"),
        pytest.param({"webhook": State.FAILED}, [], id="nobody stands in for it"),
    ],
)
def test_who_stands_in(states: dict[str, State], expected: list[tuple[str, str]]) -> None:
    chains = {"slack": ("email", "webhook"), "email": ("webhook",), "webhook": ()}
    assert stand_ins(chains, states) == tuple(StandIn(channel=name, fallback_for=failed) for name, failed in expected)


def test_who_heard_that_it_began_hears_how_it_ends() -> None:
    before = [StandIn(channel="email", fallback_for="slack"), StandIn(channel="slack", fallback_for="pagerduty")]
    assert audience(("slack",), before) == (StandIn(channel="slack"), StandIn(channel="email", fallback_for="slack"))


def test_an_end_that_people_are_not_told_reaches_only_who_keeps_the_alert_open() -> None:
    pager = PagerDutySettings(url="https://pager", routing_key="k")
    routes = Routes(
        channels={
            "pager": ChannelSpec(name="pager", kind=pager),
            "slack": ChannelSpec(name="slack", kind=SlackSettings(url="https://slack")),
        },
        routes=(),
    )
    assert routes.keeping == {"pager"}
    before = [StandIn(channel="slack"), StandIn(channel="pager", fallback_for="slack")]
    assert audience(("slack",), before, routes.keeping) == (StandIn(channel="pager", fallback_for="slack"),)


@given(fallbacks, states)
def test_asking_again_finds_nobody_more(chains: dict[str, tuple[str, ...]], before: dict[str, State]) -> None:
    found = stand_ins(chains, before)
    assert stand_ins(chains, before | {one.channel: State.PENDING for one in found}) == ()


@given(fallbacks, states)
def test_nobody_is_told_twice_and_nobody_is_left_out(
    chains: dict[str, tuple[str, ...]], before: dict[str, State]
) -> None:
    found = stand_ins(chains, before)
    assert not {one.channel for one in found} & before.keys()
    after = before | {one.channel: State.PENDING for one in found}
    for failed in (name for name, state in before.items() if state is State.FAILED):
        chain = chains[failed]
        assert any(after.get(name, State.FAILED) is not State.FAILED for name in chain) or set(chain) <= after.keys()
