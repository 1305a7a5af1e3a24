"""All sinks at once, on free or given ports."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from stack.sinks.certificates import Certificate, certificate
from stack.sinks.journal import Journal
from stack.sinks.judges import ROUTING_KEY, SIGNING_KEY
from stack.sinks.mail import PASSWORD, USERNAME, mail_sink
from stack.sinks.web import SLACK_PATH, application


@dataclass(frozen=True, slots=True, kw_only=True)
class Sinks:
    """Running sinks."""

    host: str
    http_port: int
    smtp_port: int
    journal: Journal
    certificate: Certificate

    @property
    def url(self) -> str:
        """Where the HTTP sinks and the doors are."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the notifier's example routes file asks of the environment, leading to these sinks."""
        return environment(self.host, self.http_port, self.smtp_port, self.certificate.authority)


def environment(host: str, http_port: int, smtp_port: int, authority: Path) -> dict[str, str]:
    """The variables that lead the notifier's example routes file to sinks on these ports."""
    url = f"http://{host}:{http_port}"
    return {
        "SLACK_WEBHOOK_URL": url + SLACK_PATH,
        "PAGERDUTY_URL": url + "/pagerduty/v2/enqueue",
        "PAGERDUTY_ROUTING_KEY": ROUTING_KEY,
        "SMTP_HOST": host,
        "SMTP_PORT": str(smtp_port),
        "SMTP_USERNAME": USERNAME,
        "SMTP_PASSWORD": PASSWORD,
        "SMTP_FROM": "tocsin@example.com",
        "SMTP_TO": "on-call@example.com",
        "SMTP_CA_FILE": str(authority),
        "WEBHOOK_URL": url + "/webhook",
        "WEBHOOK_SIGNING_KEY": SIGNING_KEY,
        "WEBHOOK_ALLOW_PRIVATE": "true",
    }


@asynccontextmanager
async def running_sinks(
    folder: Path, *, host: str = "127.0.0.1", http_port: int = 0, smtp_port: int = 0
) -> AsyncIterator[Sinks]:
    """Serve all sinks; the certificate lies in the folder."""
    journal = Journal()
    shown = certificate(folder)
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(application(journal), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, host, http_port)
        await site.start()
        mail_port = await stack.enter_async_context(mail_sink(journal, shown, host=host, port=smtp_port))
        yield Sinks(
            host=host,
            http_port=int(runner.addresses[0][1]),
            smtp_port=mail_port,
            journal=journal,
            certificate=shown,
        )
