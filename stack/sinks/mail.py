"""The sink that is reached by SMTP: STARTTLS, then login, then mail."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from stack.sinks.certificates import Certificate
from stack.sinks.journal import Delivery, Journal, now

USERNAME = "tocsin-mailer"
PASSWORD = "made-up-mail-password"  # noqa: S105 - known to nobody but the sink and who tests against it
_OK = 250
_MULTIPLE = 300


class _Mailbox:
    """aiosmtpd's handler: its method's name is the protocol's command."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def handle_DATA(self, _server: SMTP, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        order = self._journal.order("email")
        status = order.status or _OK
        await self._journal.add(_delivery(bytes(envelope.content), list(envelope.rcpt_tos), status))
        if order.delay:
            await asyncio.sleep(order.delay)
        return f"{status} OK" if status < _MULTIPLE else f"{status} as told"


def _delivery(content: bytes, recipients: list[str], status: int) -> Delivery:
    message = message_from_bytes(content, policy=policy.default)
    body = message.get_body(("plain",))
    return Delivery(
        channel="email",
        status=status,
        is_accepted=status < _MULTIPLE,
        key=str(message["Message-ID"] or ""),
        alert=str(message["Tocsin-Alert"] or ""),
        kind=str(message["Tocsin-Kind"] or ""),
        headers={name.lower(): str(value) for name, value in message.items()},
        body={
            "subject": str(message["Subject"] or ""),
            "from": str(message["From"] or ""),
            "to": recipients,
            "text": body.get_content() if body is not None else "",
        },
        time=now(),
    )


def _is_known(_server: object, _session: object, _envelope: object, _mechanism: str, login: object) -> AuthResult:
    known = isinstance(login, LoginPassword) and login == LoginPassword(USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=False)


@asynccontextmanager
async def mail_sink(journal: Journal, certificate: Certificate, *, host: str, port: int) -> AsyncIterator[int]:
    """Serve SMTP; gives the port."""
    # The library warns of a name that it uses itself.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    context = certificate.server_context()
    open_ones: list[SMTP] = []

    def protocol() -> SMTP:
        one = SMTP(
            _Mailbox(journal),
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=_is_known,
            loop=asyncio.get_running_loop(),
        )
        open_ones.append(one)
        return one

    server = await asyncio.get_running_loop().create_server(protocol, host, port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for one in open_ones:
            if one.transport is not None:
                one.transport.close()
        await server.wait_closed()
