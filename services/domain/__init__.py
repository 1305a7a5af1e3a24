"""The words that all services share: standard library only, no I/O."""
