"""The tables of the manager, in the schema `manager` of PostgreSQL."""

# The channels of NOTIFY, which is sent at the commit.
RULES_CHANGED = "manager_rules_changed"
ALERTS_CHANGED = "manager_alerts_changed"
RULE_ENDED = "manager_rule_ended"
CATALOG_CHANGED = "manager_catalog_changed"
SILENCES_CHANGED = "manager_silences_changed"
ROUTING_CHANGED = "manager_routing_changed"
NOTIFICATIONS_EXHAUSTED = "manager_notifications_exhausted"
ON_CALL_CHANGED = "manager_on_call_changed"
INCIDENTS_CHANGED = "manager_incidents_changed"
TENANTS_CHANGED = "manager_tenants_changed"
