"""tocsin oncall: people, schedules, escalation policies, and who is on call."""
