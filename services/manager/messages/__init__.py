"""Values of the manager as messages of the contract, and back; rpcs, workers and adapters use them alike."""
