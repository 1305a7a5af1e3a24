"""When the match stage uses new rules: each block is evaluated by one set of rules, from its start to its end.

A block is a few seconds of a busy partition, and hours of a quiet one, so new rules do not wait for the next one: where
they select something that was not selected before, the current blocks begin again with them. The window stage ends with
the same rows, however often the process ended in between. Rules that are gone, or whose threshold, condition or text
alone changed, leave what the others select as it is.

Where several tenants have rules, only what the tenants of these rules have in the blocks is matched again, from records
that are kept in memory: the others' alerts need not wait until all of it is read and matched again. A row is a function
of the records of its tenant in the block and of its rule, so the rows of all other rules are what they were, and are
neither counted nor written again. Those of these rules, and the totals that they may be judged by, are counted anew,
are all written with the next flush, and replace what was written of them before: of rows that have come equally far the
window stage takes those of later rules.
"""

from enum import Enum

from services.evaluator.core.rules import RuleSet


class RuleSwap(Enum):
    """What new rules mean for the current blocks."""

    # Use them: the current blocks come to the same with them as with those before.
    USE = "use"
    # Use them, and evaluate the current blocks with them from their start.
    BEGIN_AGAIN = "begin_again"
    # Go on with those before for a while: the blocks began again a moment ago.
    KEEP = "keep"


def swap_rules(before: RuleSet | None, rules: RuleSet, *, is_at_border: bool, may_begin_again: bool) -> RuleSwap:
    """Decide how to go on with new rules; at a border no source has a block of which anything has come."""
    if before is None or is_at_border or not rules.selecting_more(before):
        return RuleSwap.USE
    return RuleSwap.BEGIN_AGAIN if may_begin_again else RuleSwap.KEEP
