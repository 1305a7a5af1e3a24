"""A rule selects its own tenant's events only. Each record has events of one tenant.

Most fetches have events of one tenant. Then nothing is looked at event by event: rules of other tenants are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from services.evaluator.core.match.events import EventBatch, Ints, RowMask
from services.evaluator.core.rules import CompiledRule, RuleSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TenantRows:
    """Whose the events of a fetch are."""

    # Of each tenant with events, its number.
    numbers: Mapping[str, int]
    # Of each event the number of its tenant; not needed where there is one tenant.
    of_event: Ints | None
    _masks: dict[str, RowMask] = field(default_factory=dict)

    @classmethod
    def of(cls, events: EventBatch, record_of_event: Ints) -> "TenantRows":
        """Find the tenants of a fetch."""
        numbers: dict[str, int] = {}
        of_record = np.zeros(len(events.records), dtype=np.int64)
        for index, (record, length) in enumerate(zip(events.records, events.lengths.tolist(), strict=True)):
            if length:
                of_record[index] = numbers.setdefault(record.tenant, len(numbers))
        return cls(numbers=numbers, of_event=of_record[record_of_event] if len(numbers) > 1 else None)

    def without_events(self, rules: RuleSet) -> frozenset[CompiledRule]:
        """Return the rules whose tenants have no events here."""
        foreign = [of_tenant for tenant, of_tenant in rules.tenants.items() if tenant not in self.numbers]
        return frozenset().union(*foreign)

    def own(self, tenant: str, rows: Ints) -> Ints:
        """Return those of some events that are of a tenant."""
        return rows if self.of_event is None else rows[self.of_event[rows] == self.numbers[tenant]]

    def number_of(self, events: Ints) -> Ints:
        """Return the number of the tenant of each of these events."""
        return np.zeros(len(events), dtype=np.int64) if self.of_event is None else self.of_event[events]

    def narrow(self, tenant: str, selected: RowMask | None) -> RowMask | None:
        """Return the events that are selected (all, when None) and of a tenant; None: all."""
        if self.of_event is None:
            return selected
        if tenant not in self._masks:
            self._masks[tenant] = self.of_event == self.numbers[tenant]
        return self._masks[tenant] if selected is None else self._masks[tenant] & selected
