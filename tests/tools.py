"""Tools that the set-up does not bring: tests that need one run where it is found.

`@needs("promtool")` skips a test without it. CI names in TOCSIN_INSTALLED what must be there: a test that is
skipped for want of such a tool counts as failed. The last lines of a run say how many ran and how many were skipped.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

INSTALLED_VARIABLE = "TOCSIN_INSTALLED"
# The mark, and the property of a test's report: reports come from other processes.
NEEDS = "needs"

# By tool, the package of Debian that brings it.
PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "redis-server": "redis-server",
    "postgres": "postgresql",
}


def needs(*tools: str) -> pytest.MarkDecorator:
    """Mark what runs only where these tools are found."""
    unknown = set(tools) - set(PACKAGES)
    if unknown:
        raise ValueError(f"no package is named for {', '.join(unknown)}")
    return pytest.mark.needs(*tools)


def tool_path(name: str) -> Path | None:
    """Return the tool of this machine; those in this environment are built without TLS, and do not count."""
    # Debian keeps the programs of each version of PostgreSQL in a folder of its own, outside of PATH.
    folders = [*os.get_exec_path(), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    own = Path(sys.prefix)
    found = (shutil.which(name, path=folder) for folder in folders if not Path(folder).is_relative_to(own))
    return next((Path(path) for path in found if path is not None), None)


def missing_tools(tools: Iterable[str]) -> str:
    """Return why a test that needs these tools is skipped, or nothing."""
    absent = [tool for tool in tools if tool_path(tool) is None]
    return ", ".join(f"{tool} is not installed (Debian's package {PACKAGES[tool]} has it)" for tool in absent)


def count_by_tool(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return a line for each tool that a test needed."""
    needed = [
        (str(value), report.skipped) for report in reports for name, value in report.user_properties if name == NEEDS
    ]
    ran = Counter(tool for tool, is_skipped in needed if not is_skipped)
    skipped = Counter(tool for tool, is_skipped in needed if is_skipped)
    return [f"tests that need {tool}: {ran[tool]} ran, {skipped[tool]} skipped" for tool in sorted(ran | skipped)]


def is_excused(reason: str, tools: Iterable[str]) -> bool:
    """Return whether a test may be skipped in CI: it needs a tool that CI could not install."""
    promised = os.environ.get(INSTALLED_VARIABLE, "").split()
    return any(f"{tool} is not installed" in reason for tool in tools) and not any(
        f"{tool} is not installed" in reason for tool in promised
    )
