"""The migrations of each service are one chain: two that follow the same one would break every start."""

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
