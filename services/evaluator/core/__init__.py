"""The evaluator's decisions as functions of values.

`match` counts what rules select in `log-events`, `window` judges the counts. They meet only on the records of
`window-partials` (`records`) and on the compiled rules (`rules`).
"""
