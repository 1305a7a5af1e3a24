"""The outcome of masking, apart from what masks: who masks nothing need not load Hyperscan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.ingest.core.columns import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """Events without secrets: the very same columns where there were none."""

    events: Columns
    value_counts: Mapping[str, int]
    """In how many values something with each name was masked."""


Redact: TypeAlias = Callable[[Columns], Redaction]


def redact_nothing(events: Columns) -> Redaction:
    """Leave all events as they are."""
    return Redaction(events=events, value_counts={})
