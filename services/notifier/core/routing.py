"""Which channels a notification goes to, and which fallback takes the place of a channel that failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID, uuid5

from services.domain.severity import Severity
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.delivery import DeliveryState


class RoutingReason(StrEnum):
    """Why a notification goes where it goes."""

    ROUTED = "ROUTED"
    NO_ROUTE = "NO_ROUTE"


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
    """The routes file: an alert takes the first route that matches."""

    channels: Mapping[str, ChannelSpec]
    routes: tuple[Route, ...]

    def route(self, severity: Severity, labels: Mapping[str, str]) -> tuple[tuple[str, ...], RoutingReason]:
        """Return the channels of an alert, in the order of the file."""
        for route in self.routes:
            if route.matches(severity, labels):
                return route.channels, RoutingReason.ROUTED
        return (), RoutingReason.NO_ROUTE

    @property
    def tracking_channels(self) -> frozenset[str]:
        """Return the channels that keep an alert open under its id until it is resolved."""
        return frozenset(name for name, spec in self.channels.items() if spec.settings.tracks_alerts)

    @property
    def fallbacks(self) -> dict[str, tuple[str, ...]]:
        """Return the fallbacks of each channel, the first one first."""
        return {name: spec.fallback for name, spec in self.channels.items()}


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


def targets_of(
    routed: Sequence[str], earlier: Iterable[DeliveryTarget], only: frozenset[str] | None = None
) -> tuple[DeliveryTarget, ...]:
    """Return where a notification goes: the channels of its route, and those that took earlier ones of the same alert.

    So a channel that took the beginning of an alert gets its end, also when it was a fallback, or the routes have
    changed since. With `only`, no other channel is used.
    """
    fallback_for = dict.fromkeys(routed, "") | {
        target.channel: target.fallback_for for target in earlier if target.channel not in routed
    }
    return tuple(
        DeliveryTarget(channel=channel, fallback_for=failed)
        for channel, failed in fallback_for.items()
        if only is None or channel in only
    )


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
