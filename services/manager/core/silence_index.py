"""Which silences hold of an alert at a time: the active ones, found by one of their equality matchers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from services.domain.matchers import LabelMatcher, MatchOperator, all_match
from services.manager.core.silence import Silence, SilenceState

_Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceIndex:
    """The silences that are active from the time for which it was made until `valid_until`."""

    valid_until: datetime | None = None
    # Silences that hold only of alerts with this label; of those that have several such labels, under the rarest.
    _by_label: Mapping[_Pair, Sequence[Silence]] = field(default_factory=dict)
    _by_alert: Mapping[str, Sequence[Silence]] = field(default_factory=dict)
    _others: Sequence[Silence] = ()

    @classmethod
    def of(cls, silences: Iterable[Silence], *, now: datetime) -> Self:
        """Return the index of the silences that are active now."""
        stored = list(silences)
        borders = [border for silence in stored if (border := silence.next_border(now)) is not None]
        active = [silence for silence in stored if silence.state(now) is SilenceState.ACTIVE]
        counts = Counter(pair for silence in active for pair in _equalities(silence.matchers))
        by_label: dict[_Pair, list[Silence]] = {}
        by_alert: dict[str, list[Silence]] = {}
        others: list[Silence] = []
        for silence in active:
            pairs = _equalities(silence.matchers)
            if pairs:
                by_label.setdefault(min(pairs, key=lambda pair: (counts[pair], pair)), []).append(silence)
            elif silence.matchers:
                others.append(silence)
            for alert_id in silence.alert_ids:
                by_alert.setdefault(alert_id, []).append(silence)
        return cls(valid_until=min(borders, default=None), _by_label=by_label, _by_alert=by_alert, _others=others)

    def is_valid(self, now: datetime) -> bool:
        """Return whether no silence has begun or ended since it was made."""
        return self.valid_until is None or now < self.valid_until

    def silencing(self, alert_id: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the ids of the silences that hold of an alert, in their order; none where it is not silenced."""
        found = {silence.id for silence in self._by_alert.get(alert_id, ())}
        for candidates in (self._others, *(self._by_label.get(pair, ()) for pair in labels.items())):
            found |= {silence.id for silence in candidates if all_match(silence.matchers, labels)}
        return tuple(sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedAlert:
    """What of an alert decides whether it is silenced, and what it remembers of that."""

    id: str
    labels: Mapping[str, str]
    silenced_by: tuple[str, ...] = ()

    def is_outdated(self, index: SilenceIndex) -> bool:
        """Return whether the alert has to be changed: other silences hold of it."""
        return index.silencing(self.id, self.labels) != self.silenced_by


def _equalities(matchers: Iterable[LabelMatcher]) -> list[_Pair]:
    """Return the labels that an alert must have; a value that is empty says that it must have none."""
    return [(each.name, each.value) for each in matchers if each.operator is MatchOperator.EQUAL and each.value]
