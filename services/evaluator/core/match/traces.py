"""Which traces of a fetch are sampled, and when each service first logged in them.

A trace is sampled by a number that its id alone decides, its priority, so all evaluators and all services sample the
same traces: those of the lowest priorities, one of so many. When there are more than a report may hold, the lowest of
them are kept, and later reports begin at about that priority. Evaluators with other traffic may then keep more in the
same order, never others; of the traces in between some parts are missing, which the manager's confidence allows for.

An event without a time of its own says nothing: when it arrived says which sender was faster.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.domain.tenants import SOLE_TENANT
from services.evaluator.core.match.events import Array, EventBatch, Ints

# What one report to the manager may hold.
MAX_TRACE_MEMBERS: Final = 1000
_COLUMNS: Final = ("trace_id", "service", "event_time")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_ID_BYTES: Final = 32
_NANOSECONDS: Final = pa.timestamp("ns", tz="UTC")
_PRIORITIES: Final = 1 << 64
# 2 to the power of 64 divided by the golden ratio: products with it are spread evenly.
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_NO_ROWS: Final[Ints] = np.empty(0, dtype=np.int64)
_NO_PRIORITIES: Final = np.empty(0, dtype=np.uint64)

# A service in a trace, by the trace's id and the tenant; of each its first time and the trace's priority.
_Sighting = tuple[int, int]
_Key = tuple[str, str, str]
Sampled = Mapping[_Key, _Sighting]
_Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceMember:
    """A service in a sampled trace, and when it first logged there."""

    trace_id: str
    service: str
    first_ns: int
    tenant: str = SOLE_TENANT


class SampledTraces:
    """What was sampled since the last report, bounded; not for two threads at once."""

    def __init__(self, one_in: int, max_members: int = MAX_TRACE_MEMBERS) -> None:
        self._base = _PRIORITIES // one_in - 1 if one_in else -1
        self._max_members = max_members
        self._members: dict[_Key, _Sighting] = {}
        # Traces up to this priority are sampled; none when it is negative.
        self.max_priority = self._base

    def add(self, sampled: Sampled) -> None:
        """Add what was sampled of a fetch; what was sampled before changes nothing."""
        members = self._members
        for key, sighting in sampled.items():
            before = members.get(key)
            if before is None or sighting < before:
                members[key] = sighting
        # Not each time that there is one too many: it takes a while.
        if len(members) > 2 * self._max_members:
            self._keep_lowest()

    def take(self) -> Sequence[TraceMember]:
        """Return what was sampled since the last call; what is no id of a trace is left out."""
        self._keep_lowest()
        members, self._members = self._members, {}
        # After a full report no more is looked at than is needed to fill the next one.
        self.max_priority = min(self._base, 2 * max(self.max_priority, 1))
        return tuple(
            TraceMember(trace_id=trace_id, service=service, first_ns=first_ns, tenant=tenant)
            for (trace_id, service, tenant), (first_ns, _) in members.items()
            if _TRACE_ID.fullmatch(trace_id)
        )

    def _keep_lowest(self) -> None:
        """Keep the traces of the lowest priorities, whole ones, as many as fit."""
        if len(self._members) > self._max_members:
            border = sorted(priority for _, priority in self._members.values())[self._max_members]
            self._members = {key: each for key, each in self._members.items() if each[1] < border}
            self.max_priority = border - 1


def sample_traces(events: EventBatch, max_priority: int) -> Sampled:
    """Return the services in the sampled traces of these events."""
    columns = events.columns
    if max_priority < 0:
        return {}
    rows, priorities = _sampled_rows(columns.column("trace_id"), max_priority)
    if not len(rows):
        return {}
    sampled = columns.take(rows, _COLUMNS)
    times: Any = sampled.column("event_time")
    times_ns = times.cast(_NANOSECONDS).cast(pa.int64()).to_pylist()
    trace_ids: Any = sampled.column("trace_id").to_pylist()
    services: Any = sampled.column("service").to_pylist()
    tenants = [events.records[index].tenant for index in events.record_of_event()[rows].tolist()]
    keys = zip(trace_ids, services, tenants, strict=True)
    found: dict[_Key, _Sighting] = {}
    for key, first_ns, priority in zip(keys, times_ns, priorities.tolist(), strict=True):
        before = found.get(key)
        if first_ns is not None and (before is None or first_ns < before[0]):
            found[key] = first_ns, priority
    return found


def _sampled_rows(trace_ids: Array, max_priority: int) -> tuple[Ints, _Words]:
    """Return the rows of sampled traces, and the priority of each, without a Python object for any other row."""
    buffers: Any = trace_ids.buffers()
    _, offset_bytes, texts = buffers
    if texts is None or texts.size < _ID_BYTES:
        return _NO_ROWS, _NO_PRIORITIES
    offsets = np.frombuffer(offset_bytes, np.int32, len(trace_ids) + 1, trace_ids.offset * 4)
    if offsets[0] == offsets[-1]:
        return _NO_ROWS, _NO_PRIORITIES
    # The last eight digits of each id as one number: the part of an id that is random whoever makes it.
    numbers: _Words = np.ndarray(texts.size - 7, "<u8", texts, strides=(1,))
    priorities = numbers[np.maximum(offsets[1:] - 8, 0)]
    priorities *= _FACTOR
    rows = np.flatnonzero((priorities <= np.uint64(max_priority)) & (np.diff(offsets) == _ID_BYTES))
    return rows, priorities[rows]
