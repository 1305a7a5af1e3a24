"""The evaluator's ways to the world."""
