"""The evaluator's consuming loops: one for each stage."""
