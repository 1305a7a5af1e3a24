"""The sink that is reached by SMTP: STARTTLS with a certificate of its own, then login, then mail."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from stack.sink_addresses import AUTHORITY, PASSWORD, USERNAME
from stack.sinks.journal import Journal, SinkDelivery, utc_now

_OK = 250
_MULTIPLE = 300


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files with the authority's and the server's certificates."""

    authority: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS context of a server with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        return context


def folder_certificate(folder: Path) -> Certificate:
    """Return the folder's certificate, created by the first call, so that it stays trusted after a restart."""
    files = Certificate(authority=folder / AUTHORITY, server=folder / "server.pem")
    if not (files.authority.exists() and files.server.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(files.server))
        authority.cert_pem.write_to_path(str(files.authority))
    return files


class _Mailbox:
    """aiosmtpd's handler: its method has the name of the protocol's command."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def handle_DATA(self, _server: SMTP, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        behaviour = self._journal.next_behaviour("email")
        status = behaviour.status or _OK
        await self._journal.add(_delivery(bytes(envelope.content), list(envelope.rcpt_tos), status))
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        return f"{status} OK" if status < _MULTIPLE else f"{status} as ordered"


def _delivery(content: bytes, recipients: list[str], status: int) -> SinkDelivery:
    message = message_from_bytes(content, policy=policy.default)
    body = message.get_body(("plain",))
    return SinkDelivery(
        channel="email",
        status=status,
        is_accepted=status < _MULTIPLE,
        key=str(message["Message-ID"] or ""),
        alert=str(message["Tocsin-Alert"] or ""),
        kind=str(message["Tocsin-Kind"] or ""),
        incident=str(message["Tocsin-Incident"] or ""),
        headers={name.lower(): str(value) for name, value in message.items()},
        body={
            "subject": str(message["Subject"] or ""),
            "from": str(message["From"] or ""),
            "to": recipients,
            "text": body.get_content() if body is not None else "",
        },
        time=utc_now(),
    )


def _is_known(_server: object, _session: object, _envelope: object, _mechanism: str, login: object) -> AuthResult:
    known = isinstance(login, LoginPassword) and login == LoginPassword(USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=False)


@asynccontextmanager
async def smtp_sink(
    journal: Journal, certificate: Certificate, *, host: str, port: int, needs_login: bool = True
) -> AsyncIterator[int]:
    """Serve SMTP; give the port."""
    # The library warns about a name that it uses itself.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    context = certificate.server_context()
    connections: list[SMTP] = []

    def protocol() -> SMTP:
        one = SMTP(
            _Mailbox(journal),
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=needs_login,
            authenticator=_is_known if needs_login else None,
            # Offered unless nobody may log in.
            auth_exclude_mechanism=None if needs_login else ("LOGIN", "PLAIN"),
            loop=asyncio.get_running_loop(),
        )
        connections.append(one)
        return one

    server = await asyncio.get_running_loop().create_server(protocol, host, port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for one in connections:
            if one.transport is not None:
                one.transport.close()
        await server.wait_closed()
