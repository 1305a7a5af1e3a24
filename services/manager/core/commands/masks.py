"""Which fields of a rule an update means."""

import re
from collections.abc import Collection, Sequence

CHANGEABLE = frozenset(
    {
        "name", "description", "type", "scope", "filter", "group_by", "value_field", "condition", "threshold",
        "window_minutes", "window", "lateness", "severity", "labels", "enabled",
    }
)  # fmt: skip
SET_BY_SERVER = frozenset({"id", "revision", "selection_revision", "create_time", "update_time"})
EVERYTHING = "*"

_CAPITAL = re.compile(r"(?<=[a-z0-9])[A-Z]")


class MaskError(ValueError):
    """Some paths cannot be changed; `paths` says why for each, as it was written."""

    def __init__(self, paths: dict[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {why}" for path, why in paths.items()))
        self.paths = paths


def fields_meant(asked: Sequence[str], present: Collection[str]) -> frozenset[str] | None:
    """The fields to change: those that are present when nothing is asked, None for all. Raises MaskError.

    Paths may be written as in proto or as in JSON. `etag` is allowed and means nothing: it is a condition, no field.
    """
    if not asked:
        return CHANGEABLE & frozenset(present)
    if list(asked) == [EVERYTHING]:
        return None
    wrong = {path: why for path in asked if (why := _objection(path))}
    if wrong:
        raise MaskError(wrong)
    return frozenset(_snake(path) for path in asked) & CHANGEABLE


def _objection(path: str) -> str:
    if path == EVERYTHING:
        return "stands alone or not at all"
    name = _snake(path)
    if name in SET_BY_SERVER:
        return "is set by the server"
    return "" if name in CHANGEABLE or name == "etag" else "is no field of an alert rule"


def _snake(path: str) -> str:
    return _CAPITAL.sub(lambda found: f"_{found[0].lower()}", path)
