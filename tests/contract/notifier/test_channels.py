"""What every channel promises: one suite for all four, against sinks that speak the real protocols."""

import asyncio
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from uuid import UUID, uuid4

import pytest

from services.chassis.clock import SystemClock
from services.notifier.adapters.channels.email import EmailChannel, tls_context
from services.notifier.adapters.channels.http import HttpChannel, http_session
from services.notifier.core.channels import ChannelSettings
from services.notifier.core.channels.email import EmailSettings
from services.notifier.core.channels.pagerduty import PagerDutySettings
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.channels.webhook import WebhookSettings
from services.notifier.core.notification import NotificationKind
from services.notifier.core.response import Accepted, AskedToWait, ChannelResponse, Misconfigured, Refused, Unavailable
from services.notifier.ports import Channel
from stack.sinks import Behaviour, Sinks, running_sinks
from stack.sinks.journal import Journal
from stack.sinks.smtp_sink import folder_certificate, smtp_sink
from tests.fakes.notifier import EVIL, incident_content, notification_content
from tests.fakes.unhelpful_servers import counting_server, dripping_server, endless_server, unhelpful_server

# Short, as some tests wait for it; a worker beside this one may take the processor for longer than a moment.
TIMEOUT_S = 1.0
# The buffers of two sockets, and what a channel reads.
_MAX_SENT = 16 * 1024 * 1024


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sinks")


@pytest.fixture
async def sinks(certificates: Path) -> AsyncIterator[Sinks]:
    async with running_sinks(certificates) as running:
        yield running


class ChannelContract(ABC):
    sink: ClassVar[str]
    retried: ClassVar[tuple[int, ...]] = (408, 425, 500, 502, 503, 504)
    waited: ClassVar[tuple[int, ...]] = (429, 503)
    misconfigured: ClassVar[tuple[int, ...]] = (301, 307, 401, 403, 404, 405, 410)
    refused: ClassVar[tuple[int, ...]] = (400, 413, 422)
    # What comes again and again without ever being an answer.
    drips: ClassVar[tuple[bytes, ...]] = (b"HTTP/1.1 100 Continue\r\n\r\n", b"H")
    # Begins of answers, and what follows again and again.
    endless: ClassVar[tuple[bytes, bytes]] = (b"HTTP/1.1 500 x\r\nContent-Length: 9999999999\r\n\r\n", b"x" * 65536)

    @asynccontextmanager
    async def reaching(
        self, sinks: Sinks, *, port: int | None = None, host: str = "127.0.0.1", allow_private: bool = True
    ) -> AsyncIterator[Channel]:
        """The channel, leading to its sink or to another port, under another name of this machine."""
        environment = {name: value.replace("127.0.0.1", host) for name, value in sinks.environment.items()}
        if port is not None:
            environment["SMTP_PORT"] = str(port)
            for name in ("SLACK_WEBHOOK_URL", "PAGERDUTY_URL", "WEBHOOK_URL"):
                environment[name] = environment[name].replace(f":{sinks.http_port}/", f":{port}/")
        settings = replace(self.settings(environment), allow_private=allow_private)
        async with http_session(connections=4, allow_private=allow_private) as session, asyncio.timeout(20):
            if isinstance(settings, EmailSettings):
                tls = tls_context(environment["SMTP_CA_FILE"])
                with closing(EmailChannel(settings, tls, TIMEOUT_S, SystemClock())) as channel:
                    yield channel
            else:
                yield HttpChannel(session, settings, TIMEOUT_S, SystemClock())

    @abstractmethod
    def settings(self, environment: dict[str, str]) -> ChannelSettings: ...

    @abstractmethod
    def key(self, delivery: UUID) -> str: ...

    @abstractmethod
    def secrets(self, environment: dict[str, str]) -> tuple[str, ...]: ...

    @pytest.fixture
    async def channel(self, sinks: Sinks) -> AsyncIterator[Channel]:
        async with self.reaching(sinks) as channel:
            yield channel

    @pytest.mark.parametrize("kind", NotificationKind)
    async def test_each_kind_is_sent_as_the_protocol_has_it(
        self, channel: Channel, sinks: Sinks, kind: NotificationKind
    ) -> None:
        notification = notification_content(kind=kind)
        assert isinstance(await channel.send(notification, uuid4()), Accepted), sinks.journal.deliveries
        [delivery] = sinks.journal.accepted(self.sink)
        assert (delivery.alert, delivery.kind) == (notification.alert_id, kind.name)

    async def test_an_incident_is_sent_as_the_protocol_has_it(self, channel: Channel, sinks: Sinks) -> None:
        notification = incident_content()
        assert isinstance(await channel.send(notification, uuid4()), Accepted), sinks.journal.deliveries
        [delivery] = sinks.journal.accepted(self.sink)
        assert (delivery.incident, delivery.kind) == (notification.subject_id, "UPDATED")

    async def test_the_delivery_is_recognised_when_it_comes_again(self, channel: Channel, sinks: Sinks) -> None:
        delivery = uuid4()
        for _ in range(2):
            await channel.send(notification_content(), delivery)
        assert [one.key for one in sinks.journal.accepted(self.sink)] == [self.key(delivery)] * 2

    async def test_text_from_logs_breaks_no_alert_notification(self, channel: Channel, sinks: Sinks) -> None:
        notification = notification_content(text=EVIL * 40, rule=EVIL, resource=EVIL)
        assert isinstance(await channel.send(notification, uuid4()), Accepted), sinks.journal.deliveries
        [delivery] = sinks.journal.accepted(self.sink)
        assert delivery.headers.keys().isdisjoint({"bcc", "reply-to"})
        if self.sink == "slack":
            assert "<" not in str(delivery.body)

    @pytest.mark.parametrize("meaning", [Unavailable, Misconfigured, Refused])
    async def test_codes_mean_what_they_mean(
        self, channel: Channel, sinks: Sinks, meaning: type[ChannelResponse]
    ) -> None:
        codes = {Unavailable: self.retried, Misconfigured: self.misconfigured, Refused: self.refused}[meaning]
        for code in codes:
            sinks.journal.behave(self.sink, Behaviour(status=code))
            response = await channel.send(notification_content(), uuid4())
            assert isinstance(response, meaning), (code, response)
            assert str(code) in response.text

    async def test_being_asked_to_wait_says_how_long(self, channel: Channel, sinks: Sinks) -> None:
        for code in self.waited:
            sinks.journal.behave(self.sink, Behaviour(status=code, retry_after="7"))
            response = await channel.send(notification_content(), uuid4())
            assert isinstance(response, AskedToWait), response
            assert response.wait.total_seconds() == 7
            assert str(code) in response.text

    async def test_the_deadline_is_kept_when_the_answer_is_late(self, channel: Channel, sinks: Sinks) -> None:
        sinks.journal.behave(self.sink, Behaviour(delay=30))
        await self.gives_up_in_time(channel)

    async def test_the_deadline_is_kept_when_nothing_comes_back(self, sinks: Sinks) -> None:
        async with unhelpful_server(None) as port, self.reaching(sinks, port=port) as channel:
            await self.gives_up_in_time(channel)

    async def gives_up_in_time(self, channel: Channel) -> None:
        begin = asyncio.get_running_loop().time()
        response = await channel.send(notification_content(), uuid4())
        assert response == Unavailable(f"no answer within {TIMEOUT_S:g} s")
        assert asyncio.get_running_loop().time() - begin < TIMEOUT_S + 10

    async def test_a_server_that_is_not_there_is_unavailable(self, sinks: Sinks) -> None:
        async with unhelpful_server(None) as port:
            pass
        async with self.reaching(sinks, port=port) as channel:
            assert await channel.send(notification_content(), uuid4()) == Unavailable("cannot be connected to")

    @pytest.mark.parametrize("noise", [b"", b"\0\xff" * 9000 + b"\r\n", b"HTTP/1.1 999\r\n\r\n"])
    async def test_noise_is_unavailable(self, sinks: Sinks, noise: bytes) -> None:
        async with unhelpful_server(noise) as port, self.reaching(sinks, port=port) as channel:
            assert isinstance(await channel.send(notification_content(), uuid4()), Unavailable)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_a_private_address_is_reached_with_leave_only(self, sinks: Sinks, host: str) -> None:
        async with unhelpful_server(b"") as port, self.reaching(sinks, port=port, host=host) as channel:
            assert isinstance(await channel.send(notification_content(), uuid4()), Unavailable)
        async with self.reaching(sinks, host=host, allow_private=False) as channel:
            response = await channel.send(notification_content(), uuid4())
        assert isinstance(response, Misconfigured)
        assert not response.was_called
        assert sinks.journal.deliveries == []

    async def test_the_address_that_is_connected_to_is_the_one_that_was_checked(
        self, sinks: Sinks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers: list[str] = []

        def look_up(host: object, port: object, *_: object, **__: object) -> list[object]:
            """Answer as a name server that somebody changes between two questions."""
            assert host == "rebound.example"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        async with unhelpful_server(b"") as port:
            # Nothing but what is asked for one connection is ever asked, and what it may not have it does not get.
            answers = ["127.0.0.1", "169.254.169.254"]
            async with self.reaching(sinks, port=port, host="rebound.example") as channel:
                assert isinstance(await channel.send(notification_content(), uuid4()), Unavailable)
            assert answers == ["169.254.169.254"]
            for allow_private in (True, False):
                answers = ["169.254.169.254", "127.0.0.1"]
                changed = self.reaching(sinks, port=port, host="rebound.example", allow_private=allow_private)
                async with changed as channel:
                    response = await channel.send(notification_content(), uuid4())
                assert isinstance(response, Misconfigured)
                assert "no channel may have" in response.text
                assert answers == ["127.0.0.1"]

    async def test_no_spelling_of_a_private_address_gets_past_the_check(self, sinks: Sinks) -> None:
        for host in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1"):
            async with self.reaching(sinks, host=host, allow_private=False) as channel:
                response = await channel.send(notification_content(), uuid4())
            assert isinstance(response, Misconfigured), host
            assert not response.was_called
        assert sinks.journal.deliveries == []

    async def test_nothing_of_the_environment_leads_a_request_elsewhere(
        self, sinks: Sinks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with counting_server(b"") as (port, connections):
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            async with self.reaching(sinks) as channel:
                assert isinstance(await channel.send(notification_content(), uuid4()), Accepted)
        assert connections == []

    async def test_an_answer_that_comes_in_drips_ends_with_the_deadline(self, sinks: Sinks) -> None:
        for drip in self.drips:
            async with dripping_server(drip) as port, self.reaching(sinks, port=port) as channel:
                begin = asyncio.get_running_loop().time()
                assert isinstance(await channel.send(notification_content(), uuid4()), Unavailable)
                assert asyncio.get_running_loop().time() - begin < TIMEOUT_S + 10

    async def test_an_answer_without_end_is_not_read_to_its_end(self, sinks: Sinks) -> None:
        async with endless_server(self.endless) as (port, sent), self.reaching(sinks, port=port) as channel:
            assert isinstance(await channel.send(notification_content(), uuid4()), Unavailable)
            assert await asyncio.wait_for(sent, 10) < _MAX_SENT

    async def test_no_secret_is_in_a_response_or_the_log(self, sinks: Sinks, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        secrets = self.secrets(sinks.environment)
        echo = " ".join(secrets)
        errors = f'{{"status":"invalid event","errors":["{echo}"]}}'
        parrots = (
            f"HTTP/1.1 400 {echo}\r\nContent-Length: {len(errors)}\r\nX-Echo: {echo}\r\n\r\n{errors}",
            f"HTTP/1.1 500 {echo}\r\nContent-Length: {len(echo)}\r\n\r\n{echo}",
            f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/{echo}\r\nContent-Length: 0\r\n\r\n",
            f"550 {echo}\r\n",
            f"nonsense {echo}",
        )
        texts = []
        for parrot in parrots:
            async with unhelpful_server(parrot.encode()) as port, self.reaching(sinks, port=port) as channel:
                texts += [repr(await channel.send(notification_content(), uuid4())), repr(channel)]
        written = " ".join(texts) + caplog.text
        assert [secret for secret in secrets if secret in written] == []

    async def test_a_cancelled_send_ends(self, channel: Channel, sinks: Sinks) -> None:
        sinks.journal.behave(self.sink, Behaviour(delay=30))
        sending = asyncio.create_task(channel.send(notification_content(), uuid4()))
        await sinks.journal.until(lambda journal: journal.deliveries)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


class TestSlack(ChannelContract):
    sink = "slack"

    def settings(self, environment: dict[str, str]) -> ChannelSettings:
        return SlackSettings(url=environment["SLACK_WEBHOOK_URL"])

    def key(self, delivery: UUID) -> str:
        return str(delivery)

    def secrets(self, environment: dict[str, str]) -> tuple[str, ...]:
        return (environment["SLACK_WEBHOOK_URL"].rpartition("/")[2],)


class TestPagerDuty(ChannelContract):
    sink = "pagerduty"
    endless = (b"HTTP/1.1 500 x\r\n", b"x: y\r\n" * 1000)

    def settings(self, environment: dict[str, str]) -> ChannelSettings:
        return PagerDutySettings(url=environment["PAGERDUTY_URL"], routing_key=environment["PAGERDUTY_ROUTING_KEY"])

    def key(self, _delivery: UUID) -> str:
        return notification_content().alert_id

    def secrets(self, environment: dict[str, str]) -> tuple[str, ...]:
        return (environment["PAGERDUTY_ROUTING_KEY"],)


class TestWebhook(ChannelContract):
    sink = "webhook"
    endless = (b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 500 x\r\nx:", b"y" * 65536)

    def settings(self, environment: dict[str, str]) -> ChannelSettings:
        return WebhookSettings(url=environment["WEBHOOK_URL"], signing_key=environment["WEBHOOK_SIGNING_KEY"])

    def key(self, delivery: UUID) -> str:
        return str(delivery)

    def secrets(self, environment: dict[str, str]) -> tuple[str, ...]:
        return (environment["WEBHOOK_SIGNING_KEY"],)


class TestEmail(ChannelContract):
    sink = "email"
    retried = (421, 450, 451, 452)
    # SMTP cannot say how long to wait.
    waited = ()
    misconfigured = (530, 535, 550, 553)
    refused = (552, 554)
    drips = (b"220-still there\r\n", b"2")
    endless = (b"", b"220-x\r\n" * 1000)

    def settings(self, environment: dict[str, str]) -> ChannelSettings:
        return EmailSettings(
            host=environment["SMTP_HOST"],
            port=int(environment["SMTP_PORT"]),
            username=environment["SMTP_USERNAME"],
            password=environment["SMTP_PASSWORD"],
            sender=environment["SMTP_FROM"],
            recipients=(environment["SMTP_TO"],),
        )

    def key(self, delivery: UUID) -> str:
        return f"<{delivery}@example.com>"

    def secrets(self, environment: dict[str, str]) -> tuple[str, ...]:
        return (environment["SMTP_PASSWORD"],)

    async def test_a_server_without_login_takes_mail(self, certificates: Path) -> None:
        journal, certificate = Journal(), folder_certificate(certificates)
        serving = smtp_sink(journal, certificate, host="127.0.0.1", port=0, needs_login=False)
        async with serving as port, asyncio.timeout(20):
            settings = EmailSettings(
                host="127.0.0.1",
                port=port,
                username="",
                password="",
                sender="tocsin@example.com",
                recipients=("on-call@example.com",),
            )
            tls = tls_context(str(certificate.authority))
            with closing(EmailChannel(settings, tls, TIMEOUT_S, SystemClock())) as channel:
                assert isinstance(await channel.send(notification_content(), uuid4()), Accepted)
        assert len(journal.accepted("email")) == 1

    async def test_a_kept_connection_that_died_is_replaced(self, certificates: Path) -> None:
        async with AsyncExitStack() as first:
            sinks = await first.enter_async_context(running_sinks(certificates))
            async with self.reaching(sinks) as channel:
                for _ in range(2):
                    assert isinstance(await channel.send(notification_content(), uuid4()), Accepted)
                await first.aclose()
                async with running_sinks(certificates, smtp_port=sinks.smtp_port) as second:
                    assert isinstance(await channel.send(notification_content(), uuid4()), Accepted)
                    assert len(second.journal.accepted("email")) == 1


async def test_each_address_of_slacks_form_is_a_channel_and_deliveries_name_it(sinks: Sinks) -> None:
    path = "/slack/services/T0TOCSIN0/B0TOCSIN0/payments-eu"
    async with http_session(connections=1, allow_private=True) as session:
        channel = HttpChannel(session, SlackSettings(url=sinks.url + path), TIMEOUT_S, SystemClock())
        await channel.send(notification_content(), uuid4())
        nowhere = await session.post(f"{sinks.url}/slack/elsewhere", json={})
    assert nowhere.status == 404
    assert [(one.path, one.is_accepted) for one in sinks.journal.deliveries] == [(path, True)]


async def test_no_redirect_is_followed() -> None:
    async with (
        counting_server(b"") as (elsewhere, followed),
        http_session(connections=1, allow_private=True) as session,
    ):
        for status in (300, 301, 302, 303, 307, 308):
            answer = f"HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n"
            async with counting_server(answer.encode()) as (port, came):
                settings = WebhookSettings(url=f"http://127.0.0.1:{port}/hook", signing_key="k", allow_private=True)
                channel = HttpChannel(session, settings, TIMEOUT_S, SystemClock())
                response = await channel.send(notification_content(), uuid4())
            assert (response, len(came)) == (Misconfigured(f"answered {status}"), 1)
    assert followed == []
