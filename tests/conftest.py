"""Real servers for tests: one set per run, each started when a test needs it first, all stopped at the end.

With TOCSIN_TEST_SERVERS=<folder> the servers that `python -m stack test-servers <folder>` keeps running are
used instead; with TOCSIN_KAFKA, TOCSIN_POSTGRES or TOCSIN_REDIS one that somebody else runs.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from services.chassis.migrations import migrate
from services.chassis.settings import PostgresSettings, Secret
from stack.postgres import create_database, drop_database, with_database
from stack.servers import Addresses, external_addresses
from stack.system import System
from stack.testing import Servers, fresh_name, isolated_wiring, read_addresses, temporary_system
from stack.topics import create_topics, delete_topics
from tests.tools import NEEDS, count_by_tool, is_excused, missing_tools

# Brokers live for minutes here: Java's second compiler would take two fifths of their CPU, and pay off later.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# No test fails because the machine is slow. On CI the parent draws the same examples each time.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_SERVICES = Path(__file__).parents[1] / "services"
_SCHEMAS = {schema: _SERVICES / schema / "migrations" for schema in ("manager", "notifier")}
# Traces are counted after minutes otherwise.
_SETTINGS = {"MANAGER_TRACE_CLOSE_DELAY": "2s"}


@pytest.fixture(scope="module")
def plain_logs() -> Iterator[None]:
    """Write tracebacks plainly; the coloured ones of the default take longer than what is tested."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, plain])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def address_of() -> Iterator[Callable[[str], str]]:
    """Give the address of a server by its name, starting it if nobody else runs it."""
    external = external_addresses()
    if folder := os.environ.get("TOCSIN_TEST_SERVERS"):
        shared = read_addresses(Path(folder))
        yield lambda name: external.get(name) or str(getattr(shared, name))
        return
    with tempfile.TemporaryDirectory(prefix="tocsin-test-", ignore_cleanup_errors=True) as scratch:
        servers = Servers(Path(scratch), lambda _: None)
        try:
            yield lambda name: external.get(name) or servers.address(name)
        finally:
            servers.stop()


@pytest.fixture(scope="session")
def kafka(address_of: Callable[[str], str]) -> str:
    """Give the broker's address, host:port."""
    return address_of("kafka")


@pytest.fixture(scope="session")
def postgres(address_of: Callable[[str], str]) -> str:
    """Give the URL of a database from which others can be created."""
    return address_of("postgres")


@pytest.fixture(scope="session")
def redis_url(address_of: Callable[[str], str]) -> str:
    """Give the URL of a Redis, shared with other tests: use keys of your own."""
    return address_of("redis")


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """Give the URL of an empty database for one test."""
    name = fresh_name()
    create_database(postgres, name)
    yield with_database(postgres, name)
    drop_database(postgres, name)


@pytest.fixture(scope="session")
def migrated_database(postgres: str) -> Iterator[str]:
    """Give the name of a database with the schemas of all services, which is only copied."""
    name = fresh_name()
    create_database(postgres, name)
    settings = PostgresSettings(database_url=Secret(with_database(postgres, name)))
    with ThreadPoolExecutor(1) as pool:
        for schema, scripts in _SCHEMAS.items():
            pool.submit(asyncio.run, migrate(settings, schema=schema, scripts=scripts)).result()
    yield name
    drop_database(postgres, name)


@pytest.fixture
def database(postgres: str, migrated_database: str) -> Iterator[str]:
    """Give the URL of a database for one test: without rows, and with the schemas as they are after a start."""
    name = fresh_name()
    create_database(postgres, name, template=migrated_database)
    yield with_database(postgres, name)
    drop_database(postgres, name)


@pytest.fixture
def topics(kafka: str) -> Iterator[str]:
    """Give the prefix under which all topics of the system exist, empty, for one test."""
    prefix = fresh_name() + "."
    create_topics(kafka, prefix)
    yield prefix
    delete_topics(kafka, prefix)


@pytest.fixture(scope="session")
def tocsin(kafka: str, postgres: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the whole system, shared by all tests that leave it running; its ports are `tocsin.wiring.ports`."""
    servers = Addresses(kafka=kafka, postgres=postgres, redis=redis_url)
    with (
        isolated_wiring(servers) as wiring,
        temporary_system(wiring, tmp_path_factory.mktemp("tocsin"), print, settings=_SETTINGS) as system,
    ):
        yield system


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Give servers that no other module uses, each started when its address is asked for: a test may kill one.

    It does so by `own_servers.kill("redis")`, and brings it back by `own_servers.start("redis")`.
    """
    servers = Servers(tmp_path_factory.mktemp("own-servers"), print)
    try:
        yield servers
    finally:
        servers.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage by random examples, which cover by luck: each branch has an example of its own."""
    for item in items:
        if item.get_closest_marker("hypothesis") is not None:
            item.add_marker(pytest.mark.no_cover)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose tools are not here, before its fixtures."""
    tools = _tools_of(item)
    item.user_properties += [(NEEDS, tool) for tool in tools]
    if reason := missing_tools(tools):
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests that need tools ran."""
    stats = terminalreporter.stats
    reports = [report for outcome in ("passed", "failed", "skipped") for report in stats.get(outcome, [])]
    for line in count_by_tool(reports):
        terminalreporter.write_line(line)


def _tools_of(item: pytest.Item) -> list[str]:
    return [tool for mark in item.iter_markers(NEEDS) for tool in mark.args]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as failed in CI: there everything it could be waiting for must be present.

    Except for the real logs, which the project does not contain, and for tools that could not be installed.
    """
    report = yield
    reason = str(report.longrepr)
    excused = (
        hasattr(report, "wasxfail") or "the real logs are not here" in reason or is_excused(reason, _tools_of(item))
    )
    if os.environ.get("CI") and report.skipped and not excused:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report
