"""How events lie side by side on the wire, and where a row of them is cut into records."""

import numpy as np

from services.ingest.core.columns import Numbers, Offsets

# A varint carries seven bits a byte.
_VARINT_STEPS = np.array([1 << 7, 1 << 14, 1 << 21, 1 << 28], dtype=np.int64)


def framed(payload_sizes: Numbers) -> Numbers:
    """Bytes of each event on the wire: one for the tag of field 1, then the length as a varint, then the event."""
    return 2 + np.searchsorted(_VARINT_STEPS, payload_sizes, side="right") + payload_sizes


def cut(framed_sizes: Numbers, most: int) -> Offsets:
    """Where records of at most `most` bytes begin and the last one ends; an event that alone is larger stands alone."""
    ends = np.cumsum(framed_sizes)
    cuts = [0]
    while cuts[-1] < len(ends):
        begin = cuts[-1]
        before = int(ends[begin - 1]) if begin else 0
        fitting = int(np.searchsorted(ends, before + most, side="right"))
        cuts.append(max(fitting, begin + 1))
    return np.array(cuts, dtype=np.int32)
