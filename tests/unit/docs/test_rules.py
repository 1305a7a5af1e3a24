"""The page on rules agrees with the code."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.rule_files import parse_rules
from services.contract.alert_rules import read_alert_rule
from services.rule_language.restrictions import ATTRIBUTE_PREFIX, GROUPING_FIELDS
from services.rule_language.rule import complete
from services.rule_language.warnings import find_warnings
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "rules.md").read_text()
TABLES = runpy.run_path(str(ROOT / "docs" / "tables.py"))
FIELDS: dict[str, tuple[str, str, str]] = TABLES["RULE_FIELDS"]
SHOWN: list[str] = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SERVER_FIELDS = {
    "id",
    "revision",
    "selectionRevision",
    "etag",
    "createTime",
    "updateTime",
    "tenant",
    "problems",
    "beyondLimitEventCount",
}


def accepted(rule: Any) -> None:
    (given,) = parse_rules([rule])
    assert list(given.problems) == []
    complete(read_alert_rule(given.rule))


def test_the_page_names_every_field_of_the_contract() -> None:
    assert set(FIELDS) | SERVER_FIELDS == {field.json_name for field in AlertRule.DESCRIPTOR.fields}
    assert {name for name in SERVER_FIELDS if f"`{name}`" not in TEXT} == set()


@pytest.mark.parametrize("name", FIELDS)
def test_the_example_of_a_field_is_accepted(name: str) -> None:
    rule = yaml.safe_load(SHOWN[0])
    accepted(rule)
    length = {} if name != "window" else {"windowMinutes": None}
    accepted(
        {
            key: value
            for key, value in (rule | length | yaml.safe_load(f"{name}: {FIELDS[name][2]}")).items()
            if value is not None
        }
    )


@pytest.mark.parametrize("rule", yaml.safe_load(SHOWN[1])["rules"], ids=lambda rule: rule["name"])
def test_a_whole_rule_is_accepted_without_a_warning(rule: Any) -> None:
    (given,) = parse_rules([rule])
    assert list(given.problems) == []
    assert find_warnings(complete(read_alert_rule(given.rule))) == []


def test_every_grouping_value_is_explained() -> None:
    assert set(TABLES["GROUPING_VALUES"]) == {*GROUPING_FIELDS, f"{ATTRIBUTE_PREFIX}NAME"}
