"""The manager's schema, brought up to date at its start."""
