"""The migrations of each service are one chain, and the former release works with what each of them leaves.

Two that follow the same one would break every start. What would break an instance of the former release, which runs
beside the first new one until it is replaced too, waits for the next release.
"""

import re
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from services.manager import app as manager
from services.notifier import app as notifier


@pytest.mark.parametrize("migrations", [manager.MIGRATIONS, notifier.MIGRATIONS])
def test_each_revision_follows_another_one(migrations: Path) -> None:
    scripts = ScriptDirectory(str(migrations))
    revisions = list(scripts.walk_revisions())
    assert len(scripts.get_heads()) == 1
    assert len({revision.down_revision for revision in revisions}) == len(revisions)
    assert len(revisions) == len(list(migrations.glob("versions/0*.py")))


# What a statement of the former release may rest on.
_BREAKING = {
    "drops a column or a table": r"DROP\s+(?:COLUMN|TABLE|VIEW|TYPE)\b",
    "renames": r"\bRENAME\b",
    "changes a type": r"ALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE\b",
    "demands a value": r"SET\s+NOT\s+NULL",
    "demands a value of new rows": (
        r"ADD\s+(?:COLUMN\s+)?(?!CONSTRAINT)\w+\s+(?:(?!DEFAULT|GENERATED|ADD\b)[^,;\"])*NOT\s+NULL"
        r"(?!(?:(?!\bADD\b)[^,;\"])*(?:DEFAULT|GENERATED))"
    ),
}
# By file: why the former release works with it all the same.
_BORNE = {"0004_one_open_alert_a_group.py": "triggers of 0009 complete its rows"}


def breaking(text: str) -> list[str]:
    return [what for what, pattern in _BREAKING.items() if re.search(pattern, text, re.IGNORECASE)]


@pytest.mark.parametrize(
    "script",
    [each for app in (manager, notifier) for each in sorted(app.MIGRATIONS.glob("versions/0*.py"))],
    ids=lambda script: f"{script.parts[-4]}-{script.name}",
)
def test_a_migration_breaks_nothing_of_the_former_release(script: Path) -> None:
    found = breaking(script.read_text())
    assert not found or script.name in _BORNE, f"{script.name} {' and '.join(found)}: that must wait for a release"


@pytest.mark.parametrize(
    ("statement", "is_breaking"),
    [
        ("ALTER TABLE t DROP COLUMN a", True),
        ("DROP TABLE t", True),
        ("ALTER TABLE t RENAME COLUMN a TO b", True),
        ("ALTER TABLE t ALTER COLUMN a TYPE bigint", True),
        ("ALTER TABLE t ALTER a SET NOT NULL", True),
        ("ALTER TABLE t ADD COLUMN a int NOT NULL", True),
        ("ALTER TABLE t ADD a text NOT NULL DEFAULT '', ADD b int NOT NULL", True),
        ("ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 0, ADD COLUMN b text DEFAULT '' NOT NULL", False),
        ("ALTER TABLE t ADD COLUMN a int", False),
        ("CREATE TABLE t (a int NOT NULL, type text NOT NULL)", False),
        ("DROP INDEX i", False),
        ("ALTER TABLE t DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (kind IN ('A'))", False),
    ],
)
def test_what_would_break_the_former_release(statement: str, *, is_breaking: bool) -> None:
    assert bool(breaking(statement)) is is_breaking
