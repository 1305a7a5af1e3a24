"""Every table and every unique key of the services' schemas has a tenant, or a reason why it needs none.

A key without a tenant may be no text that a client chooses: else one tenant could take another's, or learn of it.
"""

import asyncpg
import pytest

pytestmark = pytest.mark.integration

_TABLES = """
SELECT table_schema || '.' || table_name FROM information_schema.tables AS found
WHERE table_schema IN ('manager', 'notifier') AND table_type = 'BASE TABLE' AND NOT EXISTS (
    SELECT FROM information_schema.columns AS own
    WHERE own.table_schema = found.table_schema AND own.table_name = found.table_name AND column_name = 'tenant')
"""
_KEYS = """
SELECT relnamespace::regnamespace || '.' || relname || ' (' || string_agg(attname, ', ' ORDER BY place) || ')'
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid, unnest(indkey) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attnum = number
WHERE attrelid = indrelid AND indisunique AND relnamespace::regnamespace::text IN ('manager', 'notifier')
GROUP BY indexrelid, relnamespace, relname HAVING bool_and(attname <> 'tenant')
"""

_TABLES_WITHOUT = {
    "they are of the schema, or of the tenants themselves": {
        "manager.alembic_version",
        "manager.seeds",
        "manager.tenants",
        "notifier.alembic_version",
    },
    "one row orders the rules, or the keys, of all tenants, which are read together": {
        "manager.rule_revision",
        "manager.api_key_revision",
    },
    "a record names its tenant in its bytes; the relay publishes those of all": {
        "manager.outbox",
        "manager.outbox_lease",
        "notifier.outbox",
        "notifier.outbox_lease",
    },
}
_KEYS_WITHOUT = {
    "the service made a UUID": {
        "manager.alert_rules (id)",
        "manager.api_keys (id)",
        "manager.audit_log (id)",
        "notifier.notifications (id)",
    },
    "a digest of the rule's UUID and more, or of what has such an id": {
        "manager.alert_history (id)",
        "manager.alert_transitions (id, fingerprint)",
        "manager.alerts (id)",
        "manager.alerts (open_key)",
        "manager.incident_alerts (incident_id, alert_id)",
        "manager.incident_history (id)",
        "manager.incidents (id)",
        "manager.rule_statistics (rule_id)",
        "notifier.deliveries (id)",
        "notifier.deliveries (notification_id, channel)",
    },
    "a number that the database counts for all tenants": {
        "manager.alert_history (position)",
        "manager.alert_rule_history (revision)",
        "manager.incident_history (position)",
        "manager.outbox (id)",
        "manager.rule_endings (revision)",
        "manager.rule_problem_history (position)",
        "notifier.outbox (id)",
    },
    "the text begins with the tenant": {
        "manager.request_ids (request_id)",
        "notifier.request_ids (request_id)",
    },
    "the table has no tenant either": {
        "manager.alembic_version (version_num)",
        "manager.api_key_revision (is_the_only_row)",
        "manager.outbox_lease (is_the_only_row)",
        "manager.rule_revision (is_the_only_row)",
        "manager.seeds (name)",
        "manager.tenants (name)",
        "notifier.alembic_version (version_num)",
        "notifier.outbox_lease (is_the_only_row)",
    },
}


@pytest.mark.parametrize(("query", "known"), [(_TABLES, _TABLES_WITHOUT), (_KEYS, _KEYS_WITHOUT)])
async def test_what_has_no_tenant_is_known_with_a_reason(query: str, known: dict[str, set[str]], database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        found = {row[0] for row in await connection.fetch(query)}
    finally:
        await connection.close()
    assert found == set().union(*known.values())
