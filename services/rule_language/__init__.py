"""The language of rules: names, types, checking with positions; pure, used by manager, evaluator and cli."""
