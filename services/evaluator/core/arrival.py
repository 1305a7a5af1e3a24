"""What one fetch brought, decoded into columns."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.evaluator.core.columns import Columns
from services.evaluator.core.moment import EARLIEST_NS, LATEST_NS

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where and when a record of `log-events` arrived, and which trace brought it."""

    partition: int
    offset: int
    arrival_ns: int
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Records of a fetch, each partition's in the order of offsets, and the events of all of them in that order.

    A record that could not be decoded is here with no events.
    """

    records: tuple[Record, ...]
    lengths: Ints
    columns: Columns

    def __post_init__(self) -> None:
        if len(self.records) != len(self.lengths) or int(self.lengths.sum()) != len(self.columns):
            raise ValueError("lengths must say how many events each record has")

    def record_of_event(self) -> Ints:
        """For each event, the index of its record."""
        return np.repeat(np.arange(len(self.records), dtype=np.int64), self.lengths)

    def arrivals_ns(self) -> Ints:
        """When each record arrived."""
        return np.fromiter((record.arrival_ns for record in self.records), np.int64, len(self.records))


def event_times_ns(columns: Columns, arrivals_ns: Ints) -> Ints:
    """When each event happened: what it says, or else when its record arrived."""
    said = columns.batch.column("event_time")
    if said.null_count == len(said):
        return arrivals_ns
    times = said.cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).fill_null(0).to_numpy()
    times = np.clip(times, EARLIEST_NS, LATEST_NS)
    if said.null_count:
        times = np.where(said.is_null().to_numpy(zero_copy_only=False), arrivals_ns, times)
    return times
