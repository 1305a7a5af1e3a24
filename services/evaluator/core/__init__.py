"""The evaluator's decisions as functions of values."""
