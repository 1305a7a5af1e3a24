from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.channels.pagerduty import PagerDutySettings
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.delivery import DeliveryState
from services.notifier.core.routing import (
    DeliveryTarget,
    EarlierDelivery,
    Route,
    Routes,
    RoutingReason,
    delivery_id,
    describe_channels,
    fallback_targets,
    gets_from_fallback,
    is_exhausted,
    targets_of,
)
from tests.fakes.notifier import notification_content

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
states = st.dictionaries(st.sampled_from(CHANNELS), st.sampled_from(DeliveryState), min_size=1)


def earlier(channel: str, fallback_for: str = "", *, is_live: bool = True) -> EarlierDelivery:
    return EarlierDelivery(target=DeliveryTarget(channel=channel, fallback_for=fallback_for), is_live=is_live)


@pytest.mark.parametrize(
    ("severity", "labels", "expected"),
    [
        pytest.param(Severity.CRITICAL, {"team": "billing"}, ("pagerduty",), id="the first route that matches decides"),
        pytest.param(Severity.CRITICAL, {"team": "web"}, ("slack", "email"), id="another value of the label"),
        pytest.param(Severity.CRITICAL, {}, ("slack", "email"), id="no label at all"),
        pytest.param(Severity.HIGH, {"team": "billing"}, ("slack", "email"), id="another severity"),
    ],
)
def test_the_first_route_that_matches_decides(
    severity: Severity, labels: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert ROUTES.route(severity, labels) == (expected, RoutingReason.ROUTED)


def test_an_alert_that_matches_no_route_goes_nowhere_and_says_so() -> None:
    assert ROUTES.route(Severity.LOW, {}) == ((), RoutingReason.NO_ROUTE)


def test_where_an_alert_would_go_is_described_with_the_fallbacks() -> None:
    slack = ChannelSpec(name="slack", settings=SlackSettings(url="https://slack"), fallback=("email",))
    routes = Routes(channels={"slack": slack}, routes=(Route(severities=frozenset(Severity), channels=("slack",)),))
    assert describe_channels(routes, Severity.LOW, {}) == [{"name": "slack", "fallback": ["email"]}]


def test_a_delivery_has_the_same_id_each_time_it_is_planned() -> None:
    notification = notification_content().notification_id
    assert delivery_id(notification, "slack") == delivery_id(notification, "slack")
    assert delivery_id(notification, "slack") != delivery_id(notification, "email")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param({"slack": DeliveryState.FAILED}, [("email", "slack")], id="the first of the chain"),
        pytest.param(
            {"slack": DeliveryState.FAILED, "email": DeliveryState.DELIVERED},
            [],
            id="one of the chain has delivered",
        ),
        pytest.param(
            {"slack": DeliveryState.FAILED, "email": DeliveryState.PENDING}, [], id="one of the chain is about to"
        ),
        pytest.param(
            {"slack": DeliveryState.FAILED, "email": DeliveryState.FAILED},
            [("webhook", "slack")],
            id="the next of the chain",
        ),
        pytest.param(
            {"slack": DeliveryState.FAILED, "email": DeliveryState.FAILED, "webhook": DeliveryState.FAILED},
            [],
            id="nobody is left",
        ),
        pytest.param({"slack": DeliveryState.DELIVERED}, [], id="nothing failed"),
        pytest.param({"webhook": DeliveryState.FAILED}, [], id="it has no fallback"),
    ],
)
def test_which_fallback_is_next(states: dict[str, DeliveryState], expected: list[tuple[str, str]]) -> None:
    chains = {"slack": ("email", "webhook"), "email": ("webhook",), "webhook": ()}
    assert fallback_targets(chains, states) == tuple(
        DeliveryTarget(channel=name, fallback_for=failed) for name, failed in expected
    )


def test_a_channel_that_took_the_beginning_gets_the_end() -> None:
    before = [earlier("email", "slack"), earlier("slack", "pagerduty"), earlier("webhook", is_live=False)]
    assert targets_of(("slack",), before, is_named=False) == (
        DeliveryTarget(channel="slack"),
        DeliveryTarget(channel="email", fallback_for="slack"),
    )


def test_a_quiet_end_reaches_only_tracking_channels() -> None:
    pager = PagerDutySettings(url="https://pager", routing_key="k")
    routes = Routes(
        channels={
            "pager": ChannelSpec(name="pager", settings=pager),
            "slack": ChannelSpec(name="slack", settings=SlackSettings(url="https://slack")),
        },
        routes=(),
    )
    assert routes.tracking_channels == {"pager"}
    before = [earlier("slack"), earlier("pager", "slack")]
    assert targets_of(("slack",), before, is_named=False, only=routes.tracking_channels) == (
        DeliveryTarget(channel="pager", fallback_for="slack"),
    )


def test_named_receivers_reach_their_fallbacks_and_no_other_receiver() -> None:
    before = [
        earlier("slack", is_live=False),
        earlier("pagerduty"),
        earlier("email", "slack", is_live=False),
        earlier("webhook", "email"),
        earlier("sms", "pagerduty"),
    ]
    assert targets_of(("slack",), before, is_named=True) == (
        DeliveryTarget(channel="slack"),
        DeliveryTarget(channel="webhook", fallback_for="email"),
    )
    assert targets_of((), before, is_named=True) == ()


def test_receivers_are_resolved_to_channels_once_each_and_in_order() -> None:
    slack = ChannelSpec(name="slack", settings=SlackSettings(url="https://slack"))
    email = replace(slack, name="email")
    routes = Routes(channels={"slack": slack, "email": email}, receivers={"ops": ("email", "slack")})
    assert routes.all_receivers == {"slack": ("slack",), "email": ("email",), "ops": ("email", "slack")}
    assert routes.resolve(["slack", "nobody", "ops"]) == (("slack", "email"), ("nobody",))


@pytest.mark.parametrize(
    ("states", "exhausted"),
    [
        pytest.param([DeliveryState.FAILED, DeliveryState.FAILED], True, id="all have failed"),
        pytest.param([DeliveryState.FAILED, DeliveryState.PENDING], False, id="one is still to be tried"),
        pytest.param([DeliveryState.FAILED, DeliveryState.DELIVERED], False, id="one has delivered"),
        pytest.param([DeliveryState.FAILED, DeliveryState.SUPERSEDED], False, id="one took something newer"),
    ],
)
def test_a_notification_is_exhausted_when_all_deliveries_have_failed(
    states: list[DeliveryState], *, exhausted: bool
) -> None:
    assert is_exhausted(states) is exhausted


@pytest.mark.parametrize(
    ("receivers", "channels", "takes"),
    [
        pytest.param((), (), True, id="the file's routes decided"),
        pytest.param(("ops",), ("slack", "email"), True, id="it goes to the channel that failed"),
        pytest.param(("boss",), ("email",), False, id="it goes to others"),
    ],
)
def test_a_fallback_takes_what_goes_to_the_channel_that_it_stands_in_for(
    receivers: tuple[str, ...], channels: tuple[str, ...], *, takes: bool
) -> None:
    target = DeliveryTarget(channel="webhook", fallback_for="slack")
    assert gets_from_fallback(target, receivers=receivers, channels=channels) is takes


@given(fallbacks, states)
def test_asked_again_there_is_no_further_fallback(
    chains: dict[str, tuple[str, ...]], before: dict[str, DeliveryState]
) -> None:
    found = fallback_targets(chains, before)
    assert fallback_targets(chains, before | {one.channel: DeliveryState.PENDING for one in found}) == ()


@given(fallbacks, states)
def test_no_fallback_is_used_twice_and_none_is_left_out(
    chains: dict[str, tuple[str, ...]], before: dict[str, DeliveryState]
) -> None:
    found = fallback_targets(chains, before)
    assert not {one.channel for one in found} & before.keys()
    after = before | {one.channel: DeliveryState.PENDING for one in found}
    for failed in (name for name, state in before.items() if state is DeliveryState.FAILED):
        chain = chains[failed]
        assert (
            any(after.get(name, DeliveryState.FAILED) is not DeliveryState.FAILED for name in chain)
            or set(chain) <= after.keys()
        )
