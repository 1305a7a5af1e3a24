"""What the manager does when PostgreSQL is there and cannot do what it is asked: nobody's record is to blame."""

import json

import pytest

from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, transition, until
from tests.integration.manager.processes import seen

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("plain_logs")]

# A sequence is not rolled back: each try meets the next trouble.
TROUBLED = """
    create sequence troubles;
    create function fail() returns trigger language plpgsql as $$
    declare states text[] := array['53100', '57014', '53200', '58030', '53100', '57014'];
        n bigint := nextval('troubles');
    begin
        if n <= array_length(states, 1) then raise exception 'trouble' using errcode = states[n]; end if;
        return null;
    end $$;
    create trigger fail after insert on alerts for each statement execute function fail();
"""
CANCELLED = """
    alter table alert_rules rename to kept_rules;
    create function cancelled() returns boolean language plpgsql as $$
    begin raise exception 'canceling statement due to user request' using errcode = '57014'; end $$;
    create view alert_rules as select * from kept_rules where cancelled();
"""
MENDED = "drop view alert_rules; alter table kept_rules rename to alert_rules"


async def dependencies(world: World) -> dict[str, str]:
    _, body = await seen(world.settings, "/health")
    found: dict[str, str] = json.loads(body)["dependencies"]
    return found


async def test_no_trouble_of_the_database_makes_good_alerts_dead_letters(world: World) -> None:
    await world.execute(TROUBLED)
    await world.publish(*[transition(resource=f"service-{n}") for n in range(20)])

    async def shown() -> bool:
        return (await dependencies(world))["postgres"] == "DOWN"

    await until(shown)
    await world.settled(20)
    assert len(await world.listed()) == 20

    async def recovered() -> bool:
        return (await dependencies(world))["postgres"] == "UP"

    await until(recovered)
    assert await world.dead_letters() == 0


async def test_what_the_database_refuses_for_its_content_is_a_dead_letter(world: World) -> None:
    await world.execute("alter table alerts add constraint no_bad_ones check (resource <> 'bad')")
    await world.publish(transition(resource="bad"), transition(resource="good"))
    await world.settled(1)
    await until(world.listed)
    assert [alert.resource for alert in await world.listed()] == ["good"]

    async def put_aside() -> bool:
        return await world.dead_letters() == 1

    await until(put_aside)


async def test_cancelled_queries_end_no_background_work(settings: Settings, running: Run) -> None:
    async with running(settings) as world:
        await world.execute(CANCELLED)

        async def failing() -> bool:
            return (await dependencies(world))["postgres"] == "DOWN"

        await until(failing)
        await world.execute(MENDED)

        async def recovered() -> bool:
            return (await dependencies(world))["postgres"] == "UP"

        await until(recovered)
        await world.publish(transition())
        await until(world.listed)
