"""Everything that the manager keeps, in the schema `manager` of PostgreSQL."""

# What is told by NOTIFY when it is committed.
RULES_CHANGED = "manager_rules_changed"
ALERTS_CHANGED = "manager_alerts_changed"
RULE_ENDED = "manager_rule_ended"
