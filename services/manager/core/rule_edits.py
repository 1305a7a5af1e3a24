"""Decide what an edit makes of a rule, and which fields an update changes."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.domain.severity import Severity
from services.domain.tenants import SOLE_TENANT
from services.manager.core.rule import StoredRule
from services.rule_language.diagnostics import ExpressionError
from services.rule_language.rule import Draft, Rule, RuleType, changes_selection, complete, draft_of

CHANGEABLE_FIELDS = frozenset(
    {
        "name", "description", "type", "scope", "filter", "group_by", "value_field", "condition", "threshold",
        "window_minutes", "window", "lateness", "severity", "labels", "enabled",
    }
)  # fmt: skip
SERVER_FIELDS = frozenset(
    {
        "id",
        "revision",
        "selection_revision",
        "create_time",
        "update_time",
        "problems",
        "tenant",
        "beyond_limit_event_count",
    }
)

_ALL_FIELDS = "*"
_CAPITAL = re.compile(r"(?<=[a-z0-9])[A-Z]")
# What a type may fill in.
_PRESET = ("scope", "filter", "group_by", "value_field", "condition")
_LENGTH = frozenset({"window", "window_minutes"})


class UpdateMaskError(ValueError):
    """Some paths cannot be changed; `paths` says why for each, as it was written."""

    def __init__(self, paths: dict[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {why}" for path, why in paths.items()))
        self.paths = paths


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEnding:
    """A rule that was disabled, deleted, or edited so that counting begins again.

    Its open alerts of an older revision than this have to be resolved, with the comment.
    """

    revision: int
    rule_id: str
    comment: str
    # The trace of the command.
    traceparent: str = ""


def words_of_ending(edit: str, revision: int, *, author: str = "") -> str:
    """Return why alerts end with an edit of their rule; `author` is empty where nobody knows who it was."""
    return f"the rule was {edit}{author and f' by {author}'} (revision {revision})"


def masked_fields(mask: Sequence[str], present: Collection[str]) -> frozenset[str] | None:
    """Return the fields to change: those that are present when the mask is empty, None for all.

    Paths may be written as in proto or as in JSON. `etag` is allowed and changes nothing: it is a condition. Raises
    UpdateMaskError.
    """
    if not mask:
        return CHANGEABLE_FIELDS & frozenset(present)
    if list(mask) == [_ALL_FIELDS]:
        return None
    wrong = {path: why for path in mask if (why := _objection(path))}
    if wrong:
        raise UpdateMaskError(wrong)
    return frozenset(_snake_case(path) for path in mask) & CHANGEABLE_FIELDS


def create(rule: Rule, rule_id: str, revision: int, *, now: datetime, tenant: str = SOLE_TENANT) -> StoredRule:
    """Return a new rule of a tenant, which counts from its first revision."""
    numbered = replace(rule, id=rule_id, revision=revision, selection_revision=revision, tenant=tenant)
    return StoredRule(rule=numbered, create_time=now, update_time=now)


def merge(stored: Rule, values: Draft, fields: Collection[str]) -> Draft:
    """Return the stored rule with the values in these fields; still to be completed.

    With another type, what the old type had filled in is cleared, so that the new one fills in its own.
    """
    draft = draft_of(stored)
    if "type" in fields and values.type != stored.type:
        draft = _without_presets(draft, stored)
    if _LENGTH & frozenset(fields):
        draft = replace(draft, window=None, window_minutes=None)
    return replace(draft, **{name: getattr(values, name) for name in fields})


def is_unchanged(stored: Rule, rule: Rule) -> bool:
    """Return whether an edit changes nothing, so that it makes no new revision."""
    return _with_identity_of(stored, rule) == stored


def counts_afresh(stored: Rule, rule: Rule) -> bool:
    """Return whether counting begins afresh with an edit. This compiles both rules' expressions.

    It does when the selection changed, and when the rule was enabled again: nothing was counted meanwhile, and an
    alert of the same window must be a new one. So it was with a rule that another release allowed and this one cannot
    compile.
    """
    try:
        return changes_selection(stored, rule) or (rule.enabled and not stored.enabled)
    except ExpressionError:
        return True


def edit(stored: StoredRule, rule: Rule, revision: int, *, is_fresh: bool, now: datetime) -> StoredRule:
    """Return the rule after an edit with which counting begins afresh or goes on."""
    before = stored.rule
    selection_revision = revision if is_fresh else before.selection_revision
    numbered = replace(_with_identity_of(before, rule), revision=revision, selection_revision=selection_revision)
    return StoredRule(rule=numbered, create_time=stored.create_time, update_time=now)


def _with_identity_of(stored: Rule, rule: Rule) -> Rule:
    """Return a rule with what only the server sets."""
    return replace(
        rule,
        id=stored.id,
        revision=stored.revision,
        selection_revision=stored.selection_revision,
        tenant=stored.tenant,
    )


def _objection(path: str) -> str:
    if path == _ALL_FIELDS:
        return "must stand alone"
    name = _snake_case(path)
    if name in SERVER_FIELDS:
        return "is set by the server"
    return "" if name in CHANGEABLE_FIELDS or name == "etag" else "is not a field of an alert rule"


def _snake_case(path: str) -> str:
    return _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", path)


def _without_presets(draft: Draft, stored: Rule) -> Draft:
    preset = _preset_of(stored.type)
    empty = Draft()
    cleared = {name: getattr(empty, name) for name in _PRESET if getattr(stored, name) == getattr(preset, name, None)}
    return replace(draft, **cleared)


def _preset_of(rule_type: RuleType) -> Rule | None:
    if rule_type is RuleType.CUSTOM:
        return None
    return complete(
        Draft(name="preset", type=rule_type, threshold=0.0, window=timedelta(minutes=1), severity=Severity.LOW)
    )
