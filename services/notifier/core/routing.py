"""Which channels a notification goes to, and who stands in for a channel that did not take it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID, uuid5

from services.domain.severity import Severity
from services.notifier.core.channel import ChannelSpec, PagerDutySettings
from services.notifier.core.delivery import State


class Reason(StrEnum):
    """Why a notification goes where it goes."""

    ROUTED = "ROUTED"
    NO_ROUTE = "NO_ROUTE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Takes alerts of these severities whose labels have one of the values listed for each name."""

    severities: frozenset[Severity]
    channels: tuple[str, ...]
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def takes(self, severity: Severity, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is this route's."""
        return severity in self.severities and all(labels.get(name) in allowed for name, allowed in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The routes file: the first route that takes an alert decides."""

    channels: Mapping[str, ChannelSpec]
    routes: tuple[Route, ...]

    def channels_of(self, severity: Severity, labels: Mapping[str, str]) -> tuple[tuple[str, ...], Reason]:
        """The channels of an alert, in the order of the file."""
        for route in self.routes:
            if route.takes(severity, labels):
                return route.channels, Reason.ROUTED
        return (), Reason.NO_ROUTE

    @property
    def keeping(self) -> frozenset[str]:
        """The channels that keep an alert open under its id until they hear its end."""
        return frozenset(name for name, spec in self.channels.items() if isinstance(spec.kind, PagerDutySettings))

    @property
    def fallbacks(self) -> dict[str, tuple[str, ...]]:
        """For each channel those that stand in for it, in this order."""
        return {name: spec.fallback for name, spec in self.channels.items()}


def delivery_id(notification: UUID, channel: str) -> UUID:
    """The same for the same notification and channel, so that planning twice plans nothing new."""
    return uuid5(notification, channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A channel that is to tell a notification, perhaps for another one."""

    channel: str
    fallback_for: str = ""


def audience(
    routed: Sequence[str], told_before: Iterable[StandIn], only: frozenset[str] | None = None
) -> tuple[StandIn, ...]:
    """Where a notification goes: the channels of its route, and those that tell an earlier one of the same alert.

    Who heard that it began, because a channel failed or the routes were others then, hears how it ends. With `only`,
    nobody else is told.
    """
    known = dict.fromkeys(routed, "") | {
        one.channel: one.fallback_for for one in told_before if one.channel not in routed
    }
    return tuple(
        StandIn(channel=channel, fallback_for=failed)
        for channel, failed in known.items()
        if only is None or channel in only
    )


_SERVED = frozenset({State.PENDING, State.IN_FLIGHT, State.DELIVERED, State.SUPERSEDED})


def stand_ins(fallbacks: Mapping[str, tuple[str, ...]], states: Mapping[str, State]) -> tuple[StandIn, ...]:
    """Who is to be told next, given where the deliveries of one notification stand.

    The law: for each channel that failed, one of its fallback chain has told it or is about to; when none has, the
    first that was not tried yet is. Asking again with the answer added to the states gives nothing more.
    """
    known = dict(states)
    found = []
    for failed in [channel for channel, state in states.items() if state is State.FAILED]:
        chain = fallbacks.get(failed, ())
        if any(known.get(channel) in _SERVED for channel in chain):
            continue
        untried = next((channel for channel in chain if channel not in known), None)
        if untried is not None:
            known[untried] = State.PENDING
            found.append(StandIn(channel=untried, fallback_for=failed))
    return tuple(found)
