"""Entries of the audit log, and how refusals that repeat each other become one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

MAX_RESOURCE = 256
REFUSAL_SPAN = timedelta(minutes=1)
# Somebody who tries addresses and names without end fills so many places, and one more that stands for all others.
_MAX_DISTINCT = 1_000


class AuditOutcome(StrEnum):
    """How a call ended; the names are those of the contract."""

    DONE = "DONE"
    REFUSED = "REFUSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One entry: who called what, when, from where, and how it ended."""

    id: str
    create_time: datetime
    tenant: str
    actor: str
    # "key", "token", "certificate", "service" or "anonymous"; empty where the caller could not prove anything.
    actor_kind: str
    actor_id: str
    role: str
    method: str
    resource: str = ""
    peer_address: str
    request_id: str = ""
    trace_id: str = ""
    outcome: AuditOutcome
    code: str
    reason: str = ""
    count: int = 1
    service: str


_Kind = tuple[str, ...]


class RefusalFolder:
    """Folds equal refusals: the first is an entry at once, those of the minute after it are one entry together.

    Refusals are equal when caller, rpc, address, code and reason are. More than a thousand different ones within a
    minute are counted in one entry that names none of these. A record may itself stand for several refusals.
    """

    def __init__(self) -> None:
        self._first: dict[_Kind, datetime] = {}
        self._repeated: dict[_Kind, AuditRecord] = {}

    def add(self, record: AuditRecord) -> AuditRecord | None:
        """Return the entry to write now; None for a refusal that is counted."""
        kind = _kind_of(record)
        if kind not in self._first:
            if len(self._first) < _MAX_DISTINCT:
                self._first[kind] = record.create_time
                return record
            record = without_names(record, count=record.count)
            kind = _kind_of(record)
            self._first.setdefault(kind, record.create_time)
        known = self._repeated.get(kind)
        self._repeated[kind] = (
            record if known is None else replace(record, id=known.id, count=known.count + record.count)
        )
        return None

    def take_due(self, now: datetime) -> Sequence[AuditRecord]:
        """Return the entries of those that were counted since a first one that is a minute old, and forget both."""
        due = [kind for kind, first in self._first.items() if now - first >= REFUSAL_SPAN]
        return self._take(due)

    def take_all(self) -> Sequence[AuditRecord]:
        """Return the entries of all that were counted."""
        return self._take(list(self._first))

    def _take(self, kinds: Sequence[_Kind]) -> Sequence[AuditRecord]:
        taken = []
        for kind in kinds:
            del self._first[kind]
            if (counted := self._repeated.pop(kind, None)) is not None:
                taken.append(counted)
        return taken


def _kind_of(record: AuditRecord) -> _Kind:
    return (
        record.tenant,
        record.actor,
        record.actor_id,
        record.method,
        record.peer_address,
        record.code,
        record.reason,
    )


def without_names(record: AuditRecord, *, count: int = 1) -> AuditRecord:
    """Return an entry of so many refusals that says neither who was refused what, nor why."""
    return replace(
        record,
        count=count,
        tenant="default",
        actor="",
        actor_kind="",
        actor_id="",
        role="",
        method="",
        resource="",
        peer_address="",
        request_id="",
        trace_id="",
        reason="",
        code="",
    )
