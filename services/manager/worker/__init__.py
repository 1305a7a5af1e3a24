"""The consuming loops and timers: decode, decide, act, commit."""
