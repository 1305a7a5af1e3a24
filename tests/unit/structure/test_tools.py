"""Tests that need tools of the machine: where they are found, what is counted, and when a skipped one is a failure."""

import re
import sys
from pathlib import Path
from typing import Literal

import pytest

from tests import tools
from tests.tools import NEEDS, PACKAGES, count_by_tool, is_excused, missing_tools, needs

RUN = Path(__file__).resolve().parents[3] / ".ci" / "run"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Name the tools that this machine has."""
    names: set[str] = set()
    monkeypatch.setattr(tools, "tool_path", lambda name: Path("/usr/bin", name) if name in names else None)
    return names


def test_a_run_says_how_many_tests_of_each_tool_ran() -> None:
    reports = [
        a_report("passed", "promtool"),
        a_report("failed", "promtool"),
        a_report("skipped", "promtool", "postgres"),
    ]
    assert count_by_tool([a_report("passed")]) == []
    assert count_by_tool(reports) == [
        "tests that need postgres: 0 ran, 1 skipped",
        "tests that need promtool: 2 ran, 1 skipped",
    ]


def a_report(outcome: Literal["passed", "failed", "skipped"], *tools: str) -> pytest.TestReport:
    properties: list[tuple[str, object]] = [(NEEDS, tool) for tool in tools]
    return pytest.TestReport("a", ("a", 1, "a"), {}, outcome, None, "call", user_properties=[("other", 1), *properties])


def test_what_is_missing_is_named_with_its_package(found: set[str]) -> None:
    found.add("promtool")
    assert missing_tools([]) == missing_tools(["promtool"]) == ""
    assert missing_tools(["promtool", "postgres"]) == "postgres is not installed (Debian's package postgresql has it)"


@pytest.mark.parametrize(
    ("installed", "needed", "excused"),
    [("", "postgres", True), ("promtool redis-server", "postgres", True), ("promtool postgres", "postgres", False)],
)
@pytest.mark.usefixtures("found")
def test_a_skipped_test_fails_where_its_tool_was_installed(
    installed: str, needed: str, *, excused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_INSTALLED", installed)
    reason = missing_tools([needed])
    assert is_excused(reason, [needed]) == excused
    assert not is_excused("another reason", [needed])
    assert not is_excused(reason, [])


def test_tools_of_this_environment_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "own", tmp_path / "system"
    for folder in (own, system):
        folder.mkdir()
        (folder / "redis-server").touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(own))
    monkeypatch.setenv("PATH", f"{own}:{system}")
    assert tools.tool_path("redis-server") == system / "redis-server"
    assert tools.tool_path("no-such-tool") is None


def test_a_tool_that_no_package_brings_is_refused() -> None:
    with pytest.raises(ValueError, match="hammer"):
        needs("hammer")


def test_ci_installs_exactly_the_tools_that_tests_may_need() -> None:
    listed = re.search(r'^tools="(.*)"$', RUN.read_text(), re.MULTILINE)
    assert listed is not None
    assert dict(pair.split(":") for pair in listed[1].split()) == PACKAGES
