"""Revisions, each plain SQL."""
