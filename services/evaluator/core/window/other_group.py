"""The groups `~other` of a partition, by their numbers, and which groups of a rule are judged in it."""

from dataclasses import dataclass

import numpy as np

from services.evaluator.core.match.events import Ints, RowMask
from services.evaluator.core.window.group_limit import GroupLimit
from services.evaluator.core.window.numbering import GroupNumbers


@dataclass(frozen=True, slots=True)
class OtherGroups:
    """What is beyond the limit, for groups that are given by their numbers; all of one call have as many values."""

    limit: GroupLimit
    groups: GroupNumbers

    def number(self, group: int) -> int:
        """Return the number of `~other` beside this group."""
        return self._number(self.limit.other(len(self.groups[group])))

    def numbers(self, groups: Ints) -> Ints:
        """Return the number of `~other` beside each of these groups."""
        sizes = [len(self.groups[group]) for group in groups.tolist()]
        by_size = {size: self._number(self.limit.other(size)) for size in set(sizes)}
        return np.array([by_size[size] for size in sizes], dtype=np.int64)

    def of_reader(self, rule_id: str, group: int) -> int:
        """Return the number of the group that has the totals of `~other` for a rule that reads them."""
        return self._number(self.limit.other_totals(len(self.groups[group]), rule_id))

    def of_totals(self, rule_id: str, groups: Ints) -> Ints:
        """Return under which groups a rule reads the totals of these."""
        other = self.number(int(groups[0])) if len(groups) else 0
        is_other = groups == other
        return np.where(is_other, self.of_reader(rule_id, other), groups) if is_other.any() else groups

    def are_judged_here(self, rule_id: str, groups: Ints) -> RowMask:
        """Return whether each group of a rule is judged in this partition; `~other` always is."""
        if self.limit.partitions == 1 or not len(groups):
            return np.ones(len(groups), dtype=bool)
        outputs = self.groups.outputs(rule_id, groups, self.limit.partitions)
        is_here: RowMask = (outputs == self.limit.partition) | (groups == self.number(int(groups[0])))
        return is_here

    def _number(self, group: tuple[str, ...]) -> int:
        return int(self.groups.numbers([group])[0])
