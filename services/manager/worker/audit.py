"""Append to the audit log: the manager's own entries, and those that the other services have published."""

from collections.abc import Sequence

import structlog

from services.chassis.kafka import Record, UnreadableRecordError
from services.contract.audit_records import UnreadableAuditRecordError, decode_audit_record
from services.domain.audit_record import AuditRecord
from services.manager.ports.tables import Store

log = structlog.get_logger()


class StoredAuditSink:
    """Writes the manager's own entries into the table, and has them published with it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """Write entries, each once however often it is written. Raises StoreUnavailable."""
        async with self._store.transaction() as transaction:
            await transaction.audit.publish(await transaction.audit.insert(records))


class AuditWorker:
    """Processes batches of the topic `audit-log`; a batch that comes again changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def handle(self, records: Sequence[Record]) -> None:
        """Process a batch. Raises UnreadableRecordError for a record that is no entry, and StoreUnavailable."""
        entries = [_decode(record) for record in records]
        async with self._store.transaction() as transaction:
            new = await transaction.audit.insert(entries)
        log.debug("audit_records_stored", new=len(new), known=len(entries) - len(new))


def _decode(record: Record) -> AuditRecord:
    try:
        return decode_audit_record(record.value)
    except UnreadableAuditRecordError:
        raise UnreadableRecordError(record, "UNREADABLE_AUDIT_RECORD") from None
