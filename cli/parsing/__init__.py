"""Lines of log files become events: pure functions."""
