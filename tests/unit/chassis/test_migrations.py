"""The migrations of each service are one chain: two that follow the same one would stop every start."""

import pytest
from alembic.script import ScriptDirectory

from services.manager import app as manager
from services.notifier import app as notifier


@pytest.mark.parametrize("service", [manager, notifier])
def test_each_revision_follows_another_one(service: object) -> None:
    scripts = ScriptDirectory(str(service.MIGRATIONS))  # type: ignore[attr-defined]
    revisions = list(scripts.walk_revisions())
    assert len(scripts.get_heads()) == 1
    assert len({revision.down_revision for revision in revisions}) == len(revisions)
    assert len(revisions) == len(list(service.MIGRATIONS.glob("versions/0*.py")))  # type: ignore[attr-defined]
