"""Tocsin beside others that people would use: the same broker, events and ten rules, in one run."""
