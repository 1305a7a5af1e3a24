"""Owns alert rules and alerts: their storage, their changes, their history."""
