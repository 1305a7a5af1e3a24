"""The examples in the README work."""

import re
from pathlib import Path

from cli.rule_files import load_rules
from services.contract.alert_rules import read_alert_rule
from services.rule_language.rule import complete

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "README.md").read_text()


def test_the_manager_accepts_the_rule_file(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    file = tmp_path / "rule.yaml"
    file.write_text(shown)
    (given,) = load_rules(file)
    kept = complete(read_alert_rule(given.rule))
    # Nothing of it is filled in by chance.
    assert (kept.group_by, kept.threshold, kept.severity.name) == (("host",), 20.0, "HIGH")
    assert "timeout" in kept.filter
