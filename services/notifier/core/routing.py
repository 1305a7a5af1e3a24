"""Which channels a notification goes to, and which fallback takes the place of a channel that failed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID, uuid5

from services.domain.matchers import SEVERITY, LabelMatcher, MatchOperator
from services.domain.severity import Severity
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.delivery import DeliveryState


class RoutingReason(StrEnum):
    """Why a notification goes where it goes: a route of the file takes it or none, or it names receivers."""

    ROUTED = "ROUTED"
    NO_ROUTE = "NO_ROUTE"
    RECEIVERS = "RECEIVERS"
    UNKNOWN_RECEIVERS = "UNKNOWN_RECEIVERS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Matches alerts of these severities whose labels have one of the values listed for each name."""

    severities: frozenset[Severity]
    channels: tuple[str, ...]
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def matches(self, severity: Severity, labels: Mapping[str, str]) -> bool:
        """Return whether an alert with these labels takes this route."""
        return severity in self.severities and all(labels.get(name) in allowed for name, allowed in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The routes file: its channels, its receivers, and routes, of which an alert takes the first one that matches."""

    channels: Mapping[str, ChannelSpec]
    routes: tuple[Route, ...] = ()
    receivers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def route(self, severity: Severity, labels: Mapping[str, str]) -> tuple[tuple[str, ...], RoutingReason]:
        """Return the channels of an alert, in the order of the file."""
        for route in self.routes:
            if route.matches(severity, labels):
                return route.channels, RoutingReason.ROUTED
        return (), RoutingReason.NO_ROUTE

    def resolve(self, receivers: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the channels of receivers, each once and in their order, and the names that are not known."""
        reached = self.all_receivers
        channels = [channel for name in receivers for channel in reached.get(name, ())]
        return tuple(dict.fromkeys(channels)), tuple(name for name in receivers if name not in reached)

    def of_tenant(self, tenant: str) -> "Routes":
        """Return what is a tenant's: its channels, and the receivers and routes whose channels are."""
        channels = {name: spec for name, spec in self.channels.items() if spec.tenant == tenant}
        return Routes(
            channels=channels,
            routes=tuple(route for route in self.routes if channels.keys() >= set(route.channels)),
            receivers={name: own for name, own in self.receivers.items() if channels.keys() >= set(own)},
        )

    @property
    def all_receivers(self) -> dict[str, tuple[str, ...]]:
        """Return the channels of each receiver; a channel is one by its own name."""
        return {name: (name,) for name in self.channels} | dict(self.receivers)

    @property
    def tracking_channels(self) -> frozenset[str]:
        """Return the channels that keep an alert open under its id until it is resolved."""
        return frozenset(name for name, spec in self.channels.items() if spec.settings.tracks_alerts)

    @property
    def fallbacks(self) -> dict[str, tuple[str, ...]]:
        """Return the fallbacks of each channel, the first one first."""
        return {name: spec.fallback for name, spec in self.channels.items()}


def file_route_matchers(route: Route) -> tuple[LabelMatcher, ...]:
    """Return a route's condition as matchers of labels: one for the severity, unless it takes all, and one a label."""
    values = {name: sorted(allowed) for name, allowed in sorted(route.labels.items())}
    if route.severities != frozenset(Severity):
        values = {SEVERITY: [severity.name for severity in sorted(route.severities, reverse=True)]} | values
    return tuple(_value_matcher(name, allowed) for name, allowed in values.items())


def _value_matcher(name: str, allowed: Sequence[str]) -> LabelMatcher:
    if len(allowed) == 1:
        return LabelMatcher(name, MatchOperator.EQUAL, allowed[0])
    return LabelMatcher(name, MatchOperator.REGEX, "|".join(map(re.escape, allowed)))


def describe_channels(
    routes: Routes, severity: Severity, labels: Mapping[str, str]
) -> list[dict[str, str | list[str]]]:
    """Return where an alert with these labels goes, as JSON: each channel with its fallbacks."""
    names, _ = routes.route(severity, labels)
    return [{"name": name, "fallback": list(routes.fallbacks[name])} for name in names]


def delivery_id(notification_id: UUID, channel: str) -> UUID:
    """Return the id of a delivery: the same each time, so that planning twice plans nothing new."""
    return uuid5(notification_id, channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTarget:
    """A channel that a notification goes to, perhaps as the fallback for another one."""

    channel: str
    fallback_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierDelivery:
    """A delivery of an earlier notification of the same subject, and whether its channel took it or will."""

    target: DeliveryTarget
    is_live: bool = True


def targets_of(
    routed: Sequence[str], earlier: Sequence[EarlierDelivery], *, is_named: bool, only: frozenset[str] | None = None
) -> tuple[DeliveryTarget, ...]:
    """Return where a notification goes: the channels of its receivers or route, and some that took earlier ones.

    So a channel that took the beginning of a subject gets its end, also when it was a fallback, or the routes have
    changed since. A notification that names its receivers goes to no channel of others, only to those that took earlier
    ones in place of a channel of these. With `only`, no other channel is used.
    """
    added = _substitutes(routed, earlier) if is_named else [each.target for each in earlier if each.is_live]
    fallback_for = dict.fromkeys(routed, "") | {
        target.channel: target.fallback_for for target in added if target.channel not in routed
    }
    return tuple(
        DeliveryTarget(channel=channel, fallback_for=failed)
        for channel, failed in fallback_for.items()
        if only is None or channel in only
    )


def _substitutes(channels: Sequence[str], earlier: Sequence[EarlierDelivery]) -> list[DeliveryTarget]:
    """Return the channels that took earlier ones in place of these, or in place of their fallbacks."""
    reached = set(channels)
    while found := {each.target.channel for each in earlier if each.target.fallback_for in reached} - reached:
        reached |= found
    return [each.target for each in earlier if each.is_live and each.target.fallback_for in reached]


_NOT_FAILED = frozenset(DeliveryState) - {DeliveryState.FAILED}


def fallback_targets(
    fallbacks: Mapping[str, tuple[str, ...]], states: Mapping[str, DeliveryState]
) -> tuple[DeliveryTarget, ...]:
    """Return the fallbacks to send to next, given the states of one notification's deliveries by channel.

    The law: for each channel that failed, one of its fallbacks has delivered or is about to; when none has, the first
    that was not tried yet is chosen. Asked again with the result added to the states, it returns nothing more.
    """
    known = dict(states)
    targets = []
    for failed in [channel for channel, state in states.items() if state is DeliveryState.FAILED]:
        chain = fallbacks.get(failed, ())
        if any(known.get(channel) in _NOT_FAILED for channel in chain):
            continue
        untried = next((channel for channel in chain if channel not in known), None)
        if untried is not None:
            known[untried] = DeliveryState.PENDING
            targets.append(DeliveryTarget(channel=untried, fallback_for=failed))
    return tuple(targets)


def is_exhausted(states: Iterable[DeliveryState]) -> bool:
    """Return whether nobody got a notification and nobody will, given the states of its deliveries.

    A delivery that was superseded does not count as failed: its channel took something newer.
    """
    return all(state is DeliveryState.FAILED for state in states)


def gets_from_fallback(target: DeliveryTarget, *, receivers: Sequence[str], channels: Iterable[str]) -> bool:
    """Return whether a fallback that takes an earlier notification of a subject also takes a later one.

    It takes what goes to the channel that it stands in for; of notifications without receivers all.
    """
    return not receivers or target.fallback_for in channels
