"""Which entries of the audit log somebody asks for."""

from dataclasses import dataclass
from datetime import datetime

from services.domain.audit_record import AuditOutcome, AuditRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """What must hold of an entry; an empty field holds of every entry of the tenant."""

    tenant: str
    actor: str = ""
    # A part of the rpc's name, in whatever case.
    method: str = ""
    resource: str = ""
    outcomes: frozenset[AuditOutcome] = frozenset()
    after: datetime | None = None
    before: datetime | None = None

    def selects(self, record: AuditRecord) -> bool:
        """Return whether all fields hold."""
        return (
            record.tenant == self.tenant
            and self.actor in {"", record.actor}
            and self.resource in {"", record.resource}
            and self.method.lower() in record.method.lower()
            and (not self.outcomes or record.outcome in self.outcomes)
            and (self.after is None or record.create_time >= self.after)
            and (self.before is None or record.create_time < self.before)
        )
