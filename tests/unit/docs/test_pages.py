"""Links and paths in the pages exist."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# A path in code marks, from the top of the project.
_PATH = re.compile(r"`((?:services|stack|cli|envoy|proto|deploy|bench|tests|docs)/[\w./-]+)`")


def links() -> Iterator[tuple[str, Path]]:
    for page in PAGES:
        text = page.read_text()
        yield from ((page.name, page.parent / found) for found in re.findall(r"\]\((?!http|#)([^)#]+)", text))
        yield from ((page.name, ROOT / found) for found in _PATH.findall(text))
        yield from ((page.name, path) for line in text.splitlines() for path in files_beside(line))


def files_beside(line: str) -> Iterator[Path]:
    """Yield the files of tests that a line names without their folder, which is that of the one before."""
    folder = None
    for named in re.findall(r"`(tests/[\w./-]+|test_\w+\.py)`", line):
        if "/" in named:
            folder = (ROOT / named).parent
        elif folder:
            yield folder / named


@pytest.mark.parametrize(
    ("page", "path"), sorted(set(links())), ids=lambda part: part.name if isinstance(part, Path) else part
)
def test_the_links_of_a_page_lead_to_existing_files(page: str, path: Path) -> None:
    assert path.exists(), f"{page} points to {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_says_two_things_of_the_same(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
        # A shorter first cell may need the second one to tell rows apart.
        subjects = Counter(re.findall(r"^\| ([^|]{25,}) \|", table, re.MULTILINE))
        assert [subject for subject, count in subjects.items() if count > 1] == []


def anchors_of(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings: list[str] = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_to_existing_headings(page: Path) -> None:
    linked: list[tuple[str, str]] = re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text())
    targets = [(page.parent / path if path else page, anchor) for path, anchor in linked]
    missing = [f"{path}#{anchor}" for path, anchor in targets if anchor not in anchors_of(path)]
    assert not missing


_STOP = re.compile(r"^\| `([\w/]+\.py)`: `([\w.]+)` \|", re.MULTILINE)


@pytest.mark.parametrize(("path", "function"), _STOP.findall((ROOT / "docs" / "architecture.md").read_text()))
def test_each_stop_on_the_way_of_an_event_exists(path: str, function: str) -> None:
    names = function.split(".")
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
    for name in names:
        (found,) = [node for node in body if isinstance(node, _DEFINITIONS) and node.name == name]
        body = found.body


def test_the_way_of_an_event_has_27_stops() -> None:
    assert len(_STOP.findall((ROOT / "docs" / "architecture.md").read_text())) == 27
