"""Which rules share rows, because they count the same events: in a fetch, and in a block so far.

Rules of one bucketing and value field that have selected exactly the same events of a block are a class, and have the
same rows. All rules begin a block together, with no rows. When a fetch distinguishes the rules of a class it is split:
those that selected something else have a class of their own from then on, which begins with a copy of the rows. Which
rules share rows depends on how a block was cut into fetches; what each rule has counted does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from services.evaluator.core.match.events import Ints
from services.evaluator.core.partial_rows import Sharers
from services.evaluator.core.rules import CompiledRule, SelectionKey

# In place of the class of a selection that has no rows yet.
NO_CLASS = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuleHits:
    """Rules of one bucketing and value field that selected the same events of a fetch, and these."""

    rules: Sequence[CompiledRule]
    events: Ints

    @property
    def selections(self) -> Sharers:
        """What these rules select."""
        return tuple(compiled.selection_key for compiled in self.rules)


def together(hits: Mapping[CompiledRule, Ints]) -> list[RuleHits]:
    """Put rules together that may share rows and selected the same events; leave out those that selected none."""
    alike: dict[tuple[str, str, int], list[CompiledRule]] = {}
    for compiled, events in hits.items():
        if len(events):
            alike.setdefault((compiled.bucketing_id, compiled.rule.value_field, len(events)), []).append(compiled)
    return [
        RuleHits(rules=rules, events=hits[rules[0]])
        for some in alike.values()
        for rules in _of_equal_events(some, hits)
    ]


def _of_equal_events(some: Sequence[CompiledRule], hits: Mapping[CompiledRule, Ints]) -> list[list[CompiledRule]]:
    """Divide rules that selected equally many events by which these are."""
    if len(some) == 1:
        return [[some[0]]]
    equal: list[list[CompiledRule]] = []
    # Rules with the same filter have the same array; what is not the same is compared where its checksum is equal.
    of_array: dict[int, list[CompiledRule]] = {}
    of_checksum: dict[int, list[list[CompiledRule]]] = {}
    for compiled in some:
        events = hits[compiled]
        found = of_array.get(id(events))
        if found is None:
            candidates = of_checksum.setdefault(crc32(events.tobytes()), [])
            found = next((each for each in candidates if np.array_equal(hits[each[0]], events)), None)
            if found is None:
                found = []
                candidates.append(found)
                equal.append(found)
            of_array[id(events)] = found
        found.append(compiled)
    return equal


@dataclass(frozen=True, slots=True)
class Split:
    """A class that has become two: the new one begins with what the former one has counted."""

    former: int
    new: int


class RowClasses:
    """The classes of a block, by their numbers. Changed in place."""

    def __init__(self) -> None:
        # Of each class who shares its rows, and the rules by which rows find their output partitions.
        self.sharers: list[Sharers] = []
        self.readers: list[Sequence[str]] = []
        self._numbers: dict[SelectionKey, int] = {}

    def alone(self, key: SelectionKey, readers: Sequence[str]) -> int:
        """Return the class of a selection that shares its rows with none; these rules read them."""
        number = self._numbers.get(key, NO_CLASS)
        return self._add((key,), readers) if number == NO_CLASS else number

    def forget(self, keys: frozenset[SelectionKey]) -> list[int]:
        """Let these selections have no class; return the classes that nobody is left of."""
        empty = []
        for number in {self._numbers.pop(key) for key in keys & self._numbers.keys()}:
            left = tuple(key for key in self.sharers[number] if key not in keys)
            self.sharers[number], self.readers[number] = left, _rule_ids(left)
            if not left:
                empty.append(number)
        return empty

    def divide(self, listed: Sequence[Sharers]) -> tuple[list[list[int]], list[Split]]:
        """Return of each of these lists of selections the classes that make it up; they have no other members then.

        No selection is in two lists. Also return the splits that this takes, in their order.
        """
        splits: list[Split] = []
        classes: list[list[int]] = []
        for sharers in listed:
            parts: dict[int, list[SelectionKey]] = {}
            for key in sharers:
                parts.setdefault(self._numbers.get(key, NO_CLASS), []).append(key)
            classes.append([self._part(number, tuple(members), splits) for number, members in parts.items()])
        return classes, splits

    def _part(self, number: int, members: Sharers, splits: list[Split]) -> int:
        """Return the class of these members of a class, a new one if there are others."""
        if number != NO_CLASS and len(members) == len(self.sharers[number]):
            return number
        new = self._add(members, _rule_ids(members))
        if number != NO_CLASS:
            gone = set(members)
            others = tuple(key for key in self.sharers[number] if key not in gone)
            self.sharers[number], self.readers[number] = others, _rule_ids(others)
            splits.append(Split(number, new))
        return new

    def _add(self, sharers: Sharers, readers: Sequence[str]) -> int:
        number = len(self.sharers)
        self.sharers.append(sharers)
        self.readers.append(readers)
        self._numbers.update(dict.fromkeys(sharers, number))
        return number


def _rule_ids(sharers: Sharers) -> Sequence[str]:
    return tuple(rule_id for rule_id, _ in sharers)
