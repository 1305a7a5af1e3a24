"""The contract's messages to the manager's values and back; used by rpcs, workers and adapters alike."""
