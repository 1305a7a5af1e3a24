"""E-mail by SMTP, with STARTTLS, and with login where there is a user name."""

import asyncio
import ssl
from dataclasses import dataclass, field
from uuid import UUID

import aiosmtplib

from services.chassis.clock import Clock
from services.notifier.adapters.channels.addresses import address_refused, connect_permitted
from services.notifier.core.channels.email import EmailSettings, Envelope, email_body
from services.notifier.core.notification import NotificationContent
from services.notifier.core.response import Accepted, ChannelResponse, Misconfigured, Unavailable, classify_smtp

# Mail servers end connections that are idle for long.
_MAX_IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class EmailChannel:
    """Sends one mail to all recipients; keeps connections for a while, because each costs a handshake and a login."""

    settings: EmailSettings
    tls: ssl.SSLContext
    timeout_s: float
    clock: Clock
    _idle: list[tuple[float, aiosmtplib.SMTP]] = field(default_factory=list, init=False, repr=False)

    async def send(self, notification: NotificationContent, delivery_id: UUID) -> ChannelResponse:
        settings = self.settings
        envelope = Envelope(sender=settings.sender, recipients=settings.recipients, date=self.clock.now())
        content = email_body(notification, delivery_id, envelope)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._exchange(content)
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            return Unavailable(f"no answer within {self.timeout_s:g} s")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return address_refused(error) or _classify(error)

    def close(self) -> None:
        """Close all connections. Each mail was accepted or was not: no QUIT is needed."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _exchange(self, content: bytes) -> ChannelResponse:
        client = await self._reuse() or await self._connect()
        try:
            refused, _ = await client.sendmail(self.settings.sender, list(self.settings.recipients), content)
        except BaseException:
            client.close()
            raise
        self._idle.append((self.clock.monotonic(), client))
        return Accepted(f"{len(refused)} of {len(self.settings.recipients)} recipients refused" if refused else "")

    async def _reuse(self) -> aiosmtplib.SMTP | None:
        """Return a connection that was used not long ago and still answers."""
        while self._idle:
            since, client = self._idle.pop()
            try:
                if self.clock.monotonic() - since < _MAX_IDLE_S:
                    await client.rset()
                    return client
            except aiosmtplib.SMTPException:
                pass
            except BaseException:
                client.close()
                raise
            client.close()
        return None

    async def _connect(self) -> aiosmtplib.SMTP:
        settings = self.settings
        try:
            connection = await connect_permitted(settings.host, settings.port, allow_private=settings.allow_private)
        except OSError as error:
            raise aiosmtplib.SMTPConnectError("not connected") from error
        client = aiosmtplib.SMTP(
            # The name that the certificate must have.
            hostname=settings.host,
            sock=connection,
            username=settings.username or None,
            password=settings.password or None,
            # STARTTLS or nothing: without it neither the login nor the mail leaves this machine.
            start_tls=True,
            tls_context=self.tls,
            timeout=self.timeout_s,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            connection.close()
            raise
        return client


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trust the system's authorities, or only the one in the file. Raises OSError when it cannot be read."""
    return ssl.create_default_context(cafile=ca_file or None)


def _classify(error: Exception) -> ChannelResponse:
    """Return what an error means, in a text of our own: servers repeat logins and addresses in theirs."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        # The server judged each recipient; the first one's code is as good as any.
        return classify_smtp(error.recipients[0].code)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return classify_smtp(error.code)
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Misconfigured("shows a certificate that is not trusted")
    if isinstance(error, aiosmtplib.SMTPConnectError):
        return Unavailable("cannot be connected to")
    if isinstance(error, (aiosmtplib.SMTPNotSupported, ValueError)):
        return Misconfigured("offers no STARTTLS or no login")
    return Unavailable("broke the connection off")
