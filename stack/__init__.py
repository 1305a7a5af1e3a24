"""The real servers on one machine, without containers."""
