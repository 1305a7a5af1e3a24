"""The consuming loops: decode, decide, act, commit."""
