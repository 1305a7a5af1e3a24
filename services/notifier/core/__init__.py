"""Decisions of the notifier: functions of values."""
