"""Judges log events by rules: match (stateless) and window (stateful)."""
