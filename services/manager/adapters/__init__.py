"""The manager's ports on real servers."""
