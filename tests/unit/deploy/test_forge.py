"""The forge's files have the form that it expects, and its workflow has only the permissions that it needs."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

FORGE = Path(__file__).resolve().parents[3] / ".github"


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("workflows/ci.yml", "github-workflows"),
        ("ISSUE_TEMPLATE/fault.yml", "github-issue-forms"),
        ("ISSUE_TEMPLATE/wish.yml", "github-issue-forms"),
        ("ISSUE_TEMPLATE/config.yml", "github-issue-config"),
    ],
)
def test_the_form_is_right(path: str, schema: str) -> None:
    expected = files("check_jsonschema").joinpath(f"builtin_schemas/vendor/{schema}.json").read_text()
    # YAML 1.1 reads the key `on` as true.
    text = re.sub(r"^on:", '"on":', (FORGE / path).read_text(), flags=re.MULTILINE)
    jsonschema.validate(yaml.safe_load(text), json.loads(expected))


def test_the_workflow_has_no_rights_and_pins_what_it_runs() -> None:
    text = (FORGE / "workflows" / "ci.yml").read_text()
    assert yaml.safe_load(text)["permissions"] == {}
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in used)
    assert "run: .ci/run" in text


def test_ci_runs_all_tests_and_then_the_demo() -> None:
    lines = (FORGE.parent / ".ci" / "run").read_text().splitlines()
    assert "set -eu" in lines
    assert [line for line in lines if "make " in line] == ["CI=true make test", "exec make demo"]
