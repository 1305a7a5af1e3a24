"""A database that was backed up and restored by the commands of the manual: the manager goes on where it was."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.settings import PostgresSettings, Secret
from services.manager.settings import Settings
from stack.postgres import create_database, drop_database, postgres_binary, with_database
from stack.testing import fresh_name
from tests.integration.manager.conftest import Run, again, transition, until
from tocsin.alerts.v1 import alert_service_pb2 as alerts_pb
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.rules.v1 import alert_rule_service_pb2 as rules_pb

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """Give the URL of a database without any schema, as on a new server."""
    name = fresh_name()
    create_database(postgres, name)
    yield with_database(postgres, name)
    drop_database(postgres, name)


async def command(program: str, *arguments: str) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(postgres_binary(program), *arguments, stdout=pipe, stderr=pipe)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_what_was_backed_up_goes_on_after_a_restore(
    settings: Settings, running: Run, empty: str, tmp_path: Path
) -> None:
    dump = str(tmp_path / "alertdb.dump")
    async with running(settings) as world:
        await world.publish(transition())
        await world.processed(1)
        (before,) = await world.listed()
        await world.alerts.AcknowledgeAlert(alerts_pb.AcknowledgeAlertRequest(id=before.id, actor="ana"))
        (before,) = await world.listed()
        rules = await world.rules.ListAlertRules(rules_pb.ListAlertRulesRequest())
        history = await world.history(before.id)
        await command("pg_dump", "--format=custom", f"--file={dump}", settings.postgres.database_url.reveal())

    await command("pg_restore", "--clean", "--if-exists", f"--dbname={empty}", dump)
    restored = replace(again(settings), postgres=PostgresSettings(database_url=Secret(empty)))
    async with running(restored) as world:
        assert await world.listed() == [before]
        assert await world.history(before.id) == history
        assert await world.rules.ListAlertRules(rules_pb.ListAlertRulesRequest()) == rules
        # The transition from before comes again, and is known; the end is new.
        await world.publish(transition(), transition("RESOLVED", window=1))
        await world.processed(2)
        (after,) = await world.listed()
        assert (after.id, after.state, after.repeat_count) == (before.id, Alert.RESOLVED, 0)
        # What was in the outbox is published again with the same id, by which the notifier knows it.
        kinds: dict[str, int] = {}

        async def is_resolved() -> bool:
            kinds.update({each.id: each.kind for each, _ in await world.notifications(1)})
            return Notification.RESOLVED in kinds.values()

        await until(is_resolved)
        assert sorted(kinds.values()) == [Notification.FIRING, Notification.ACKNOWLEDGED, Notification.RESOLVED]
