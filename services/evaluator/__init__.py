"""Evaluates rules on log events: match (stateless) and window (stateful)."""
