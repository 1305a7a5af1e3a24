"""The Python example of docs/rest.md sends an event, and says why a call failed."""

import re
from pathlib import Path

import grpc
import pytest

from tests.fakes.ingest_server import IngestServer, ingest_server

_PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text()


@pytest.fixture
def code() -> str:
    found: list[str] = re.findall(r"```python\n(import grpc.*?)```", _PAGE, re.DOTALL)
    return found[0]


def run(code: str, server: IngestServer) -> None:
    exec(code.replace("127.0.0.1:8080", server.address), {})  # noqa: S102  (our own page)


def test_the_example_sends_an_event(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ingest_server() as server:
        run(code, server)
        assert server.messages == ["Timeout"]
    assert capsys.readouterr().out == "1\n"


def test_the_example_says_why_a_call_failed(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ingest_server() as server:
        server.is_away = lambda _: True
        run(code, server)
    assert capsys.readouterr().out == f"{grpc.StatusCode.UNAVAILABLE} away\n"
