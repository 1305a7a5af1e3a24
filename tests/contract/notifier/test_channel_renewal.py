"""A secret of a channel that changes in its file is used without a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from services.chassis.clock import SystemClock
from services.notifier.adapters.channels.renewal import renewed_channel
from services.notifier.core.response import Accepted
from services.notifier.core.routes_file import RoutesError
from services.notifier.settings import RoutesSource
from tests.fakes.notifier import notification_content

ROUTES = """
channels:
  hook: {kind: webhook, url: "${HOOK_URL}", signing_key_file: key, allow_private: true}
  mail:
    kind: email
    host: 127.0.0.1
    username_file: user
    password: ${MAIL_PASSWORD}
    from: a@example.com
    to: b@example.com
    ca_file: ${CA:-}
"""


class Receiver:
    """Keeps the paths that were called, and lets the first call wait."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.address = ""
        self.arrived, self.released = asyncio.Event(), asyncio.Event()

    async def receive(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        if len(self.paths) == 1:
            self.arrived.set()
            await self.released.wait()
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/{name}", receiver.receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.address = "http://{}:{}".format(*runner.addresses[0][:2])
    yield receiver
    await runner.cleanup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    for name, value in (("url", "http://127.0.0.1:1/x"), ("key", "k" * 32), ("password", "p"), ("user", "u")):
        write(tmp_path / name, value)
    return tmp_path


def write(path: Path, value: str) -> None:
    path.write_text(f"{value}\n")


def source_of(folder: Path) -> RoutesSource:
    return RoutesSource(folder / "routes.yaml", {"HOOK_URL_FILE": "url", "MAIL_PASSWORD_FILE": "password"})


async def test_a_changed_address_is_used_at_once_and_what_is_being_sent_ends_well(
    receiver: Receiver, folder: Path
) -> None:
    write(folder / "url", f"{receiver.address}/old")
    source = source_of(folder)
    spec = source.routes.channels["hook"]
    async with renewed_channel(spec, SystemClock(), lambda: source.routes.channels["hook"]) as channel:
        first = asyncio.create_task(channel.send(notification_content(), uuid4()))
        await receiver.arrived.wait()
        assert not source.refresh()
        write(folder / "url", f"{receiver.address}/new")
        assert source.refresh()
        answers = await asyncio.gather(*(channel.send(notification_content(), uuid4()) for _ in range(2)))
        receiver.released.set()
        assert {type(answer) for answer in [*answers, await first]} == {Accepted}
    assert receiver.paths == ["/old", "/new", "/new"]


async def test_the_last_secrets_that_were_right_stay(folder: Path) -> None:
    source = source_of(folder)
    before = source.routes
    with capture_logs() as logs:
        write(folder / "url", "hunter2")
        assert [source.refresh(), source.refresh()] == [False, False]
        (folder / "url").unlink()
        assert not source.refresh()
    assert source.routes == before
    assert [log["reason"] for log in logs] == ["channels.hook.url: must be an http or https address"]
    assert "hunter2" not in str(logs)
    write(folder / "url", "http://127.0.0.1:1/y")
    write(folder / "password", "q")
    assert source.refresh()
    assert source.routes != before
    # The file itself counts as it was at the start.
    write(folder / "routes.yaml", "channels: {}")
    assert not source.refresh()


async def test_a_channel_that_cannot_be_opened_again_stays_as_it_was(folder: Path) -> None:
    source = source_of(folder)
    present = [source.routes.channels["mail"]]
    async with renewed_channel(present[0], SystemClock(), lambda: present[0]) as channel:
        environ = {"HOOK_URL_FILE": "url", "MAIL_PASSWORD_FILE": "password", "CA": "/no/such/file"}
        present[0] = RoutesSource(folder / "routes.yaml", environ).routes.channels["mail"]
        with capture_logs() as logs:
            await channel.send(notification_content(), uuid4())
    assert [log["event"] for log in logs if log["event"].startswith("channel_")] == ["channel_not_renewed"]


def test_a_wrong_file_at_the_start_is_refused(folder: Path) -> None:
    (folder / "key").unlink()
    with pytest.raises(RoutesError, match=r"channels\.hook.signing_key_file: cannot be read"):
        source_of(folder)
