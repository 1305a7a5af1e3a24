"""Tells people about alerts through channels, and remembers what became of each telling."""
