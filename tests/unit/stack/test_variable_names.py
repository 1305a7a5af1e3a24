"""A variable that looks like one of ours and is none is refused; other names are free."""

from pathlib import Path

import pytest

from stack.ports import Ports
from stack.servers import local_addresses
from stack.variable_names import main, misspelt_variables
from stack.wiring import Wiring


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ROUTE", "ROUTES"),
        ("routes", "ROUTES"),
        ("SINK", "SINKS"),
        ("OLTP", "OTLP"),
        ("PURG", "PURGE"),
        ("TOCSIN_PORT_EDG", "TOCSIN_PORT_EDGE"),
        ("TOCSIN_KAFKAS", "TOCSIN_KAFKA"),
        ("TOCSIN_KAFKA_SASL_USERS", "TOCSIN_KAFKA_SASL_USER"),
        ("INGST_LINGER", "INGEST_LINGER"),
        ("ingest_linger", "INGEST_LINGER"),
    ],
)
def test_the_name_that_is_meant_is_named(name: str, meant: str) -> None:
    assert misspelt_variables([name], ()) == [f'{name}: nothing reads a variable of this name; did you mean "{meant}"?']


@pytest.mark.parametrize(
    "name",
    [
        "ROUTES",
        "SINKS",
        "TOCSIN_PORT_EDGE",
        "INGEST_LINGER",
        "TOCSIN_TEST_SERVERS",
        "TOCSIN_KAFKA_CA",
        "SMTP_PASSWORD",
        "TEAM",
        "V",
    ],
)
def test_our_names_and_free_ones_are_taken(name: str) -> None:
    assert misspelt_variables([name], ()) == []


def test_what_a_routes_file_uses_is_taken() -> None:
    assert misspelt_variables(["SINK", "ROUTE"], {"SINK"}) == misspelt_variables(["ROUTE"], ())


@pytest.mark.parametrize("is_given", [True, False])
def test_the_routes_file_is_the_one_given_else_that_of_the_last_start(
    *, is_given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text("url: ${SINK}")
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path))
    monkeypatch.delenv("ROUTES", raising=False)
    if is_given:
        monkeypatch.setenv("ROUTES", str(routes))
    else:
        Wiring(addresses=local_addresses(Ports()), ports=Ports(), routes=routes).write(tmp_path)
    assert main(["SINK"]) == 0
    assert main(["SINK", "ROUTE"]) == 2
    assert capsys.readouterr().err.startswith("ROUTE: nothing reads")
    monkeypatch.setenv("ROUTES", "")
    assert main(["SINK"]) == 2
