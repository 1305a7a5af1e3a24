"""The vocabulary that services share: standard library only, no I/O."""
