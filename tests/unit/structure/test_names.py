"""One name, one thing; and the words of docs/glossary.md instead of those that they replaced."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("services", "cli", "stack")

# Public names that several modules define on purpose, and why.
ALIKE = {
    "log": "every module's logger",
    "app": "every service's composition; every command group's Typer application",
    "Settings": "every service's settings",
    "Metrics": "every service's instruments",
    "PREFIX": "every service's prefix of its environment variables",
    "SCHEMA": "every service's schema in the database",
    "MIGRATIONS": "every service's folder of migrations",
    "MOUNTS": "every service's servicers",
    "main": "every program's entry",
    "RequestTable": "the port of manager and notifier for calls with a request id",
    "PostgresRetention": "the adapter of manager and notifier that deletes old rows",
}

# A word that this project used alone, and the field's word, as docs/glossary.md has it.
GLOSSARY = {
    "teller|tellers|telling": "publisher",
    "said again|said already": "publish; duplicate",
    "put aside|poison|poisons|poisoned": "dead letter",
    "gather|gathers|gathered|gatherer": "batch",
    "handover|handovers": "publisher",
    "sign of life|signs of life": "heartbeat",
    "leftover|leftovers": "removed channels",
    "complaint|complaints": "diagnostic",
    "low water": "oldest needed offset",
    "hub|hubs": "broadcaster",
    "bell|bells": "wake-up",
    "follower|followers": "watcher",
    "claim|claims": "dedup cache",
    "house": "retention",
    "tally|tallies": "aggregate",
    "divert|diverts|diverted": "fall back",
    "put right": "adjust",
    "memo|memos": "state",
    "sow|sows|sown": "insert",
    "a stand in|stand in for|stand ins": "fallback",
    "turned away": "circuit open",
    "sweep|sweeps|swept": "purge, delete",
    "tidy|tidies|tidied": "purge",
    "settling": "batch processing",
    "keeper": "retention",
    "door|doors": "endpoint, listener",
    "whole number|whole numbers": "integer",
    "broken number|broken numbers": "double",
    "rule book|ready rule": "rule set, compiled rule",
}

# Where a word is the field's own.
STANDARD_TERMS = {
    "claim|claims": ("stack/envoy.py", "stack/envoy_access.py"),  # of a token (JWT)
}

Text = tuple[str, int, str]


@cache
def modules() -> tuple[tuple[Path, ast.Module], ...]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    # A migration stays as it was when it ran, and Alembic prescribes its names.
    paths = [path for path in paths if "migrations" not in path.parts]
    return tuple((path.relative_to(ROOT), ast.parse(path.read_text())) for path in paths)


def definitions(body: list[ast.stmt]) -> Iterator[str]:
    """Generate the names that these statements of a module define."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=first, orelse=second):
                yield from definitions([*first, *second])


def texts(path: Path, tree: ast.Module) -> Iterator[Text]:
    """Generate each identifier, docstring and log event of a module as words, with its place."""
    yield str(path), 1, words_of(path.stem)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield str(path), node.lineno, words_of(node.name)
                yield str(path), node.lineno, ast.get_docstring(node) or ""
            case ast.Module():
                yield str(path), 1, ast.get_docstring(node) or ""
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield str(path), node.lineno, words_of(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Constant(value=str(event)), *_]):
                yield str(path), node.lineno, words_of(event)


@cache
def all_texts() -> tuple[Text, ...]:
    return tuple(text for path, tree in modules() for text in texts(path, tree))


def words_of(name: str) -> str:
    """Return an identifier's words: "put_aside", "PutAside" and "PUT_ASIDE" are "put aside"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).strip()


def test_a_public_name_is_defined_in_one_module() -> None:
    places = defaultdict(set)
    for path, tree in modules():
        for name in definitions(tree.body):
            places[name].add(str(path))
    several = {
        name: sorted(paths)
        for name, paths in places.items()
        if len(paths) > 1 and not name.startswith("_") and name not in ALIKE
    }
    assert several == {}


@pytest.mark.parametrize("former", GLOSSARY)
def test_the_glossarys_word_is_used(former: str) -> None:
    pattern = re.compile(rf"\b(?:{former})\b".replace(" ", r"[\s-]+"), re.IGNORECASE)
    allowed = STANDARD_TERMS.get(former, ())
    found = [
        f"{path}:{line}: {text[:80]!r}"
        for path, line, text in all_texts()
        if path not in allowed and pattern.search(text)
    ]
    assert not found, f"say {GLOSSARY[former]}"


def test_the_check_finds_a_word_in_each_place() -> None:
    module = (
        '"""Low\nwater."""\nclass LowWater:\n    def __init__(self, low_water):\n        log.info("low_water_moved")\n'
    )
    assert len([text for _, _, text in texts(Path("m.py"), ast.parse(module)) if "low" in text.lower()]) == 4
