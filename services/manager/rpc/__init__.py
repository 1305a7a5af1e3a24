"""The rpcs: decode, decide, act, answer."""
