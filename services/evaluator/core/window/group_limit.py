"""The limit of groups of a rule in one window, and the group `~other` of what is beyond it.

A window of a rule has at most so many panes here; rows of further groups count in the group `~other` of the rule, the
window and this partition. So nothing is lost from counts, and memory is bounded.

- Which groups are beyond the limit is a function of the window's rows in the order of their records: the first groups
  stay (`admission`). A group with an alert, or with one that has ended and is still known, always has a pane.
- A row of a group beyond the limit has a pane of its own until its block ends, in the window's `overflow`, so that a
  later row of the block replaces it. What it adds to its former row is added to the pane of `~other` at once. Rows are
  cumulative from the start of their block, so counts and sums of `~other` are those of the rows that count, and its
  minimum, maximum and last time are theirs too.
- A rule that reads totals must know them of each of its groups. So the totals of its bucketing decide for it: a group
  has a pane where it has one in their window, and what is beyond the limit is the same in both. Totals are where the
  groups of any of their readers are judged, so as many more of them may be here. What is beyond the limit is added up
  for each reader by itself, because each judges other groups here.
- A tenant may have a limit for the groups of all its rules together (`tenant_groups`). Once it has reached that, its
  windows take no further groups, as if each had reached its own limit. So after a restart without a snapshot, which
  does not read windows that were closed, other groups may be beyond a tenant's limit than before.
- Groups are spread evenly over the partitions, so each applies its share. Several partitions may each have an
  `~other`; its last value names the partition, so each is a resource, and an alert, of its own.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.domain.tenants import TenantLimits
from services.evaluator.core.records import Group

_OTHER = "~other"
# In place of how many panes there may be: as many as come.
UNLIMITED: Final = 2**62
_NO_LIMITS = TenantLimits()


class GroupLimitKind(StrEnum):
    """Which limit a window has reached: a log field."""

    RULE = "RULE"
    TENANT = "TENANT"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimit:
    """How many groups of a rule one window may have in all partitions together, and which partition this is."""

    max_groups: int = 100_000
    partition: int = 0
    partitions: int = 1
    # Of all rules of a tenant together, in all partitions.
    of_tenants: TenantLimits = _NO_LIMITS

    @property
    def limits_tenants(self) -> bool:
        """Whether some tenant has a limit."""
        return self.of_tenants != _NO_LIMITS

    def tenant_share(self, tenant: str) -> int:
        """Return how many groups the rules of a tenant may have in this partition."""
        limit = self.of_tenants.of(tenant)
        return max(limit // self.partitions, 1) if limit else UNLIMITED

    def share(self, readers: int = 1) -> int:
        """Return how many groups that so many rules read may have panes in a window of this partition."""
        return max(self.max_groups // self.partitions, 1) * min(max(readers, 1), self.partitions)

    def other(self, size: int) -> Group:
        """Return the group of what is beyond the limit, with so many values."""
        return (*[_OTHER] * (size - 1), f"{_OTHER}/{self.partition}")

    def other_totals(self, size: int, rule_id: str) -> Group:
        """Return the group of the totals of what is beyond the limit for one of their readers; no event has such."""
        return (*self.other(size), rule_id)


DEFAULT_LIMIT: Final = GroupLimit()
