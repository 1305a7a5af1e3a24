"""Write the dashboards: an overview, one of each service, and trends over weeks.

`python deploy/grafana/generate.py` writes; with `--check` it compares instead and exits 1 when a dashboard is stale.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from of_services import EVALUATOR, INGEST, MANAGER, NOTIFIER
from overview import OVERVIEW, TRENDS
from panels import Variable, write

FOLDER = Path(__file__).resolve().parent / "dashboards"
VARIABLES = (
    Variable(name="rule", label="Rule", query="label_values(tocsin_evaluator_rule_fired_total, rule)"),
    Variable(name="severity", label="Severity", query="label_values(tocsin_evaluator_rule_fired_total, severity)"),
    Variable(name="channel", label="Channel", query="label_values(tocsin_notifier_breaker_state, channel)"),
)
DASHBOARDS = (OVERVIEW, INGEST, EVALUATOR, MANAGER, NOTIFIER, TRENDS)


def main(arguments: Sequence[str]) -> int:
    """Write the files, or compare them."""
    stale = []
    for dashboard in DASHBOARDS:
        path, text = FOLDER / f"{dashboard.uid}.json", write(dashboard, VARIABLES)
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(text)
    if stale and "--check" in arguments:
        sys.stderr.write(f"stale, `make gen` writes them: {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
