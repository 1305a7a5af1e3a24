"""What Prometheus alerts on: each rule reads metrics that exist, is tried, and is described."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.tools import needs, tool_path
from tests.unit.deploy.test_observability import OTHERS, exported

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus_rules.yml").read_text())["groups"][0]["rules"]
TESTS = yaml.safe_load((DEPLOY / "prometheus_rules_test.yml").read_text())["tests"]
__all__ = ["exported"]


@needs("promtool")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "prometheus_rules.yml"],
        # The certificates that it names are in the container.
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["check", "config", "prometheus.local.yml"],
        ["test", "rules", "prometheus_rules_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_rules_and_each_fires_when_it_should(command: list[str]) -> None:
    done = subprocess.run(
        [str(tool_path("promtool")), *command], cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_a_rule_reads_is_exported(exported: set[str]) -> None:
    without_labels = re.sub(r"by \([^)]*\)|\{[^}]*\}", "", " ".join(rule["expr"] for rule in RULES))
    read = set(re.findall(r"[a-z]+(?:_[a-z0-9]+)+(?=[\[\s),]|$)", without_labels))
    functions = {"max_over_time", "min_over_time", "histogram_quantile"}
    bases = {re.sub(r"_bucket$", "", name) for name in exported}
    assert {re.sub(r"_bucket$", "", name) for name in read - functions} <= bases | OTHERS
    assert len(read) > len(RULES) / 2


def test_each_rule_has_a_test_in_which_it_fires() -> None:
    expected = " ".join(str(test["promql_expr_test"]) for test in TESTS)
    untried = [rule["alert"] for rule in RULES if f'alertname="{rule["alert"]}"' not in expected]
    assert not untried


def test_each_rule_says_how_bad_it_is_and_what_it_means() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_the_manual_lists_each_rule() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    assert [rule["alert"] for rule in RULES] == re.findall(r"^\| `(Tocsin\w+)` \|", manual, re.MULTILINE)
