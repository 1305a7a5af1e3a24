"""All sinks at once, on free or given ports."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from stack.sink_addresses import sink_environment
from stack.sinks.http_sinks import sink_application
from stack.sinks.journal import Journal
from stack.sinks.smtp_sink import Certificate, folder_certificate, smtp_sink


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
        """The address of the HTTP sinks and of the endpoints for tests."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the notifier's example routes file, with the addresses of these sinks."""
        return sink_environment(self.host, self.http_port, self.smtp_port, self.certificate.authority)


@asynccontextmanager
async def running_sinks(
    folder: Path, *, host: str = "127.0.0.1", http_port: int = 0, smtp_port: int = 0
) -> AsyncIterator[Sinks]:
    """Serve all sinks; the certificate is in the folder."""
    journal = Journal()
    certificate = folder_certificate(folder)
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(sink_application(journal), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, host, http_port)
        await site.start()
        mail_port = await stack.enter_async_context(smtp_sink(journal, certificate, host=host, port=smtp_port))
        yield Sinks(
            host=host,
            http_port=int(runner.addresses[0][1]),
            smtp_port=mail_port,
            journal=journal,
            certificate=certificate,
        )
