"""What the manager does when PostgreSQL answers with errors that no record has caused."""

import json

import pytest

from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, transition, until
from tests.integration.manager.processes import admin_page

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("plain_logs")]

# A sequence is not rolled back: each attempt meets the next error.
FAILING = """
    create sequence attempts;
    create function fail() returns trigger language plpgsql security definer as $$
    declare states text[] := array['53100', '57014', '53200', '58030', '53100', '57014'];
        n bigint := nextval('attempts');
    begin
        if n <= array_length(states, 1) then raise exception 'failure' using errcode = states[n]; end if;
        return null;
    end $$;
    create trigger fail after insert on alerts for each statement execute function fail();
"""
CANCELLED = """
    alter table alert_rules rename to stored_rules;
    create function cancelled() returns boolean language plpgsql as $$
    begin raise exception 'canceling statement due to user request' using errcode = '57014'; end $$;
    create view alert_rules as select * from stored_rules where cancelled();
    grant all on alert_rules to public;
"""
REPAIRED = "drop view alert_rules; alter table stored_rules rename to alert_rules"


async def dependencies(world: World) -> dict[str, str]:
    _, body = await admin_page(world.settings, "/health")
    found: dict[str, str] = json.loads(body)["dependencies"]
    return found


async def test_errors_of_the_database_make_no_dead_letters(world: World) -> None:
    await world.execute(FAILING)
    await world.publish(*[transition(resource=f"service-{n}") for n in range(20)])

    async def shown() -> bool:
        return (await dependencies(world))["postgres"] == "DOWN"

    await until(shown)
    await world.processed(20)
    assert len(await world.listed()) == 20

    async def recovered() -> bool:
        return (await dependencies(world))["postgres"] == "UP"

    await until(recovered)
    assert await world.dead_letters() == 0


async def test_a_record_that_the_database_refuses_for_its_content_is_a_dead_letter(world: World) -> None:
    await world.execute("alter table alerts add constraint no_bad_ones check (resource <> 'bad')")
    await world.publish(transition(resource="bad"), transition(resource="good"))
    await world.processed(1)
    await until(world.listed)
    assert [alert.resource for alert in await world.listed()] == ["good"]

    async def dead_lettered() -> bool:
        return await world.dead_letters() == 1

    await until(dead_lettered)


async def test_cancelled_queries_end_no_background_work(settings: Settings, running: Run) -> None:
    async with running(settings) as world:
        await world.execute(CANCELLED)

        async def failing() -> bool:
            return (await dependencies(world))["postgres"] == "DOWN"

        await until(failing)
        await world.execute(REPAIRED)

        async def recovered() -> bool:
            return (await dependencies(world))["postgres"] == "UP"

        await until(recovered)
        await world.publish(transition())
        await until(world.listed)
