"""The evaluator's loops, one for each stage."""
