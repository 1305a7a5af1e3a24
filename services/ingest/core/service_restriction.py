"""Events of services that the caller's key does not allow: refused like those with a wrong field."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.domain.found_values import shortened
from services.ingest.core.columns import Columns, Mask
from services.ingest.core.event_checker import CheckResult
from services.ingest.core.field_checks import EventField, Requirement

# Of the names in a message, and of the characters of a name that was found.
_MAX_NAMED, _MAX_SHOWN = 5, 64

FoundServices = Mapping[tuple[int, EventField], str]


def restrict_services(
    result: CheckResult, events: Columns, services: Collection[str], *, indexes: Sequence[int] | None = None
) -> tuple[CheckResult, FoundServices]:
    """Refuse also the events of other services than these, and return what was found in their place.

    With `indexes` these events alone are looked at. An event whose service is refused anyway stays as it is.
    """
    column: Any = events.column(EventField.SERVICE.name.lower())
    allowed = pc.is_in(column, value_set=pa.array(sorted(services), pa.string()))
    others: Mask = ~allowed.to_numpy(zero_copy_only=False).astype(np.bool_)
    if indexes is not None:
        looked_at = np.zeros(len(others), dtype=np.bool_)
        looked_at[indexes] = True
        others &= looked_at
    for requirement, rows in result.failed:
        if requirement.field is EventField.SERVICE:
            others &= ~rows
    if not others.any():
        return result, {}
    refused = np.flatnonzero(others)
    names: list[str] = column.take(pa.array(refused)).to_pylist()
    found = {
        (index, EventField.SERVICE): f'"{shortened(name, _MAX_SHOWN)}"'
        for index, name in zip(refused.tolist(), names, strict=True)
    }
    return replace(result, failed=(*result.failed, (_requirement(services), others))), found


def _requirement(services: Collection[str]) -> Requirement:
    named = sorted(services)
    rest = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    return Requirement(EventField.SERVICE, f"a service of the caller's key: {', '.join(named[:_MAX_NAMED])}{rest}")
