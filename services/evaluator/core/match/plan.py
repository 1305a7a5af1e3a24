"""What a whole set of rules selects in the events of a fetch."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np

from services.evaluator.core.match.events import EventColumns, Ints, RowMask
from services.evaluator.core.match.selection import Selection, compile_selection
from services.rule_language.checking import Expression

# What stands for a rule: the plan returns it and does not look into it.
RuleT = TypeVar("RuleT", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(Generic[RuleT]):
    """What each rule selected in one fetch."""

    # The rows of each rule that selected any, rising. Rules may share an array: do not write into it.
    rows: Mapping[RuleT, Ints]
    # Rules that could not be evaluated, and why: they miss this fetch, the others do not.
    failed: Mapping[RuleT, Exception]


@dataclass(frozen=True, slots=True, eq=False)
class RulePlan(Generic[RuleT]):
    """A set of rules, compiled to be evaluated together."""

    _selections: Mapping[RuleT, Sequence[Selection]]

    @classmethod
    def of(cls, rules: Mapping[RuleT, Sequence[Expression]]) -> Self:
        """Compile rules; each selects the events for which all of its expressions are true."""
        return cls({rule: [compile_selection(each) for each in expressions] for rule, expressions in rules.items()})

    def select(self, columns: EventColumns) -> Selected[RuleT]:
        """Return the rows of each rule that selects any of these events."""
        rows: dict[RuleT, Ints] = {}
        failed: dict[RuleT, Exception] = {}
        for rule, selections in self._selections.items():
            try:
                selected = _select(selections, columns)
            except Exception as error:  # noqa: BLE001  (one rule that fails must not stop the others)
                failed[rule] = error
                continue
            if len(selected):
                rows[rule] = selected
        return Selected(rows=rows, failed=failed)


def _select(selections: Sequence[Selection], columns: EventColumns) -> Ints:
    mask: RowMask | None = None
    for selection in selections:
        mask = selection(columns, mask)
    return np.arange(len(columns)) if mask is None else np.flatnonzero(mask)
