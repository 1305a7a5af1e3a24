"""The rpcs: decode, decide, act, respond."""
