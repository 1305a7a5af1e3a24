"""The evaluator's adapters: Kafka and the manager's rules."""
