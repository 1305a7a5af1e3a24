"""Mail by SMTP, with STARTTLS and login."""

import asyncio
import ssl
from dataclasses import dataclass, field
from uuid import UUID

import aiosmtplib

from services.chassis.clock import Clock
from services.notifier.core.answer import Accepted, Answer, Misconfigured, Unavailable, of_smtp
from services.notifier.core.channel import EmailSettings
from services.notifier.core.mail import Envelope, mail
from services.notifier.core.message import Message

# Mail servers end connections that say nothing for long.
_MOST_IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EmailChannel:
    """Sends one mail to all recipients; keeps connections for a while, because each costs a handshake and a login."""

    settings: EmailSettings
    tls: ssl.SSLContext
    seconds: float
    clock: Clock
    _idle: list[tuple[float, aiosmtplib.SMTP]] = field(default_factory=list, init=False, repr=False)

    async def send(self, message: Message, delivery: UUID) -> Answer:
        """Tell it once: the Message-ID is the delivery's id."""
        settings = self.settings
        envelope = Envelope(sender=settings.sender, recipients=settings.recipients, date=self.clock.now())
        content = mail(message, delivery, envelope)
        try:
            async with asyncio.timeout(self.seconds):
                return await self._exchange(content)
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            return Unavailable(f"no answer within {self.seconds:g} s")
        except (aiosmtplib.SMTPException, OSError, ValueError) as problem:
            return of_problem(problem)

    def close(self) -> None:
        """Leave all connections. The mails were taken or they were not: no farewell is needed."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _exchange(self, content: bytes) -> Answer:
        client = await self._kept() or await self._connected()
        try:
            refused, _ = await client.sendmail(self.settings.sender, list(self.settings.recipients), content)
        except BaseException:
            client.close()
            raise
        self._idle.append((self.clock.monotonic(), client))
        return Accepted(f"{len(refused)} of {len(self.settings.recipients)} recipients refused" if refused else "")

    async def _kept(self) -> aiosmtplib.SMTP | None:
        """A connection that was used not long ago and still answers."""
        while self._idle:
            since, client = self._idle.pop()
            try:
                if self.clock.monotonic() - since < _MOST_IDLE_SECONDS:
                    await client.rset()
                    return client
            except aiosmtplib.SMTPException:
                pass
            except BaseException:
                client.close()
                raise
            client.close()
        return None

    async def _connected(self) -> aiosmtplib.SMTP:
        settings = self.settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password,
            # STARTTLS or nothing: without it neither the login nor the mail leaves this machine.
            start_tls=True,
            tls_context=self.tls,
            timeout=self.seconds,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return client


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trust the system's authorities, or only the one in the file. Raises OSError when it cannot be read."""
    return ssl.create_default_context(cafile=ca_file or None)


def of_problem(problem: Exception) -> Answer:
    """What an error means, in words of our own: servers repeat logins and addresses in theirs."""
    if isinstance(problem, aiosmtplib.SMTPRecipientsRefused):
        # The server judged each recipient; the first one's judgement is as good as any.
        return of_smtp(problem.recipients[0].code)
    if isinstance(problem, aiosmtplib.SMTPResponseException):
        return of_smtp(problem.code)
    causes = [problem, problem.__cause__, problem.__context__]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Misconfigured("shows a certificate that is not trusted")
    if isinstance(problem, aiosmtplib.SMTPConnectError):
        return Unavailable("cannot be connected to")
    if isinstance(problem, (aiosmtplib.SMTPNotSupported, ValueError)):
        return Misconfigured("offers no STARTTLS or no login")
    return Unavailable("broke the connection off")
