"""The rows of columns whose values are adjusted: read one by one, and put back in their places."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from services.ingest.core.adjustments import OptionalFields
from services.ingest.core.columns import Columns

_FIELDS = ("record_id", "status_code", "response_time", "host", "trace_id", "attributes")


def read_rows(events: Columns, rows: Sequence[int]) -> list[OptionalFields]:
    """Return the optional fields of some events; of attributes with the same key the last counts."""
    chosen = events.select(list(_FIELDS)).take(pa.array(rows, pa.int64()))
    return [OptionalFields(**(row | {"attributes": dict(row["attributes"])})) for row in chosen.to_pylist()]


def replace_rows(events: Columns, rows: Sequence[int], changed: Sequence[OptionalFields]) -> Columns:
    """Return the events with the optional fields of some of them changed."""
    places = np.arange(events.num_rows)
    places[list(rows)] = events.num_rows + np.arange(len(rows))
    order = pa.array(places)
    for name in _FIELDS:
        field = events.schema.field(name)
        values: list[Any] = [getattr(each, name) for each in changed]
        if name == "attributes":
            values = [list(each.items()) for each in values]
        column = pa.concat_arrays([events.column(name), pa.array(values, field.type)]).take(order)
        events = events.set_column(events.schema.get_field_index(name), field, column)
    return events
