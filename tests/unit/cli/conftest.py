from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.fakes.edge import Edge, running_edge
from tests.fakes.ingest_server import IngestServer, ingest_server
from tests.unit.cli.commands import Command


@pytest.fixture
def edge() -> Iterator[Edge]:
    with running_edge() as found:
        yield found


@pytest.fixture
def tocsin(edge: Edge) -> Command:
    """The command against this edge."""

    def run(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(app, [*arguments, "--server", edge.address], input=text)

    return run


@pytest.fixture
def ingest() -> Iterator[IngestServer]:
    with ingest_server() as server:
        yield server
