"""Sends notifications about alerts through channels, and retries, redrives and records each delivery."""
