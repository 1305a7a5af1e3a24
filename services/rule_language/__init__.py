"""What a rule may say: names, types, checking with positions; pure, used by manager, evaluator and command line."""
