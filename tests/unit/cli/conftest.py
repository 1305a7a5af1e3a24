from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner, Result

from cli.main import app
from tests.fakes.edge import Edge, running_edge
from tests.fakes.ingest_server import IngestServer, ingest_server
from tests.unit.cli.commands import IDS, Command
from tocsin.alerts.v1.alert_pb2 import Alert, WindowResult
from tocsin.notifications.v1.notification_pb2 import FailedNotification
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


@pytest.fixture(autouse=True)
def _no_system_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know nothing of what `make up` has started in this folder."""
    monkeypatch.setenv("TOCSIN_RUN", "/nonexistent")


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
def written(tmp_path: Path) -> Callable[..., str]:
    """Write rules into a file, and return its name."""

    def write(*rules: Any) -> str:
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump_all(rules))
        return str(file)

    return write


@pytest.fixture
def ingest() -> Iterator[IngestServer]:
    with ingest_server() as server:
        yield server


@pytest.fixture
def two_alerts(edge: Edge) -> Edge:
    states = (Alert.FIRING, Alert.RESOLVED)
    edge.alerts = [
        Alert(
            id=name,
            state=state,
            severity=AlertRule.CRITICAL,
            rule_name="High error count",
            resource="payment-service",
            window=WindowResult(count=101),
            fire_time=Timestamp(seconds=1_767_225_600),
            update_time=Timestamp(seconds=1_767_225_601),
        )
        for name, state in zip(IDS, states, strict=True)
    ]
    return edge


@pytest.fixture
def one_failure(edge: Edge) -> Edge:
    failure = FailedNotification(id=IDS[0], alert_id=IDS[1], channel="slack", status=FailedNotification.RETRYING)
    failure.last_error = "answered 500"
    edge.failed = [failure]
    return edge
