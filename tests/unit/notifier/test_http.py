import aiohttp
import pytest

from services.chassis.clock import SystemClock
from services.notifier.adapters.channels.http import HttpChannel, http_session
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.response import ChannelResponse, Misconfigured
from tests.fakes.notifier import SPACE, notification_content


async def post(session: aiohttp.ClientSession, url: str) -> ChannelResponse:
    channel = HttpChannel(session, SlackSettings(url=url), 2, SystemClock())
    return await channel.send(notification_content(), SPACE)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "0x7f000001", "2130706433", "127.1"])
async def test_no_way_of_writing_it_leads_to_a_private_address(host: str) -> None:
    async with http_session(connections=1, allow_private=False) as session:
        response = await post(session, f"http://{host}:9/")
    # Some ways are refused as no address at all.
    assert isinstance(response, Misconfigured)


async def test_what_permits_a_private_address_is_named() -> None:
    async with http_session(connections=1, allow_private=False) as session:
        response = await post(session, "http://127.0.0.1:9/")
    assert isinstance(response, Misconfigured)
    assert "allow_private: true in the routes file permits it" in response.text
    assert not response.was_called


async def test_an_address_that_is_none_is_a_mistake_in_the_file() -> None:
    async with aiohttp.ClientSession() as session:
        response = await post(session, "http://")
    assert response == Misconfigured("its address cannot be used", was_called=False)
