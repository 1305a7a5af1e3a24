"""What an edit makes of a rule."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.domain.severity import Severity
from services.manager.core.rule import KeptRule
from services.rule_language.rule import Draft, Rule, RuleType, changes_selection, complete, draft_of

# What a type may fill in.
_PRESET = ("scope", "filter", "group_by", "value_field", "condition")
_LENGTH = frozenset({"window", "window_minutes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The open alerts of a rule that have to end: those that an older revision than this one said last."""

    revision: int
    rule_id: str
    comment: str
    # The trace of the command.
    traceparent: str = ""


def created(rule: Rule, rule_id: str, revision: int, *, now: datetime) -> KeptRule:
    """A new rule, counting from its first revision."""
    numbered = replace(rule, id=rule_id, revision=revision, selection_revision=revision)
    return KeptRule(rule=numbered, create_time=now, update_time=now)


def merged(kept: Rule, given: Draft, fields: Collection[str]) -> Draft:
    """What is kept with the given values in these fields; still to be completed.

    With another type, what the old type had filled in goes, so that the new one fills in its own.
    """
    draft = draft_of(kept)
    if "type" in fields and given.type != kept.type:
        draft = _without_presets(draft, kept)
    if _LENGTH & frozenset(fields):
        draft = replace(draft, window=None, window_minutes=None)
    changes = {name: getattr(given, name) for name in fields}
    return replace(draft, **changes)


def says_the_same(kept: Rule, rule: Rule) -> bool:
    """Whether an edit changes nothing, so that no new revision is made of it."""
    return replace(rule, id=kept.id, revision=kept.revision, selection_revision=kept.selection_revision) == kept


def counts_afresh(kept: Rule, rule: Rule) -> bool:
    """Whether counting begins afresh with an edit. This compiles both rules' expressions.

    It does when the selection changed, and when the rule was switched on again: nothing was counted meanwhile, and an
    alert of the same window must be a new one.
    """
    return changes_selection(kept, rule) or (rule.enabled and not kept.enabled)


def edited(kept: KeptRule, rule: Rule, revision: int, *, is_fresh: bool, now: datetime) -> KeptRule:
    """The rule after an edit, with which counting begins afresh or goes on."""
    old = kept.rule
    selection = revision if is_fresh else old.selection_revision
    numbered = replace(rule, id=old.id, revision=revision, selection_revision=selection)
    return KeptRule(rule=numbered, create_time=kept.create_time, update_time=now)


def switched(kept: Rule, *, enabled: bool) -> Rule:
    """The rule switched on or off."""
    return replace(kept, enabled=enabled)


def _without_presets(draft: Draft, kept: Rule) -> Draft:
    preset = _presets_of(kept.type)
    empty = Draft()
    cleared = {name: getattr(empty, name) for name in _PRESET if getattr(kept, name) == getattr(preset, name, None)}
    return replace(draft, **cleared)


def _presets_of(kind: RuleType) -> Rule | None:
    if kind is RuleType.CUSTOM:
        return None
    return complete(Draft(name="preset", type=kind, threshold=0.0, window=timedelta(minutes=1), severity=Severity.LOW))
