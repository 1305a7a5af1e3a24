"""tocsin ca: certificates from an authority in a folder."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.unit.cli.commands import error_of


def ca(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ca", *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> str:
    made = ca("init", str(tmp_path))
    assert made.exit_code == 0
    assert f"{tmp_path}/ca/ca.pem is the authority's certificate" in made.stdout
    return str(tmp_path)


def test_a_certificate_for_each_kind_of_caller(folder: str) -> None:
    issued = ca("issue", folder, "gateway-1", "--service", "gateway", "--dns", "api-gateway", "-o", "json")
    (gateway,) = json.loads(issued.stdout)
    assert gateway["identity"] == "spiffe://tocsin/service/gateway"
    assert gateway["key"] == f"{folder}/gateway-1/key.pem"
    assert Path(gateway["key"]).read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert ca("issue", folder, "ada", "--client", "ada", "--role", "admin", "--tenant", "payments").exit_code == 0
    assert ca("issue", folder, "edge", "--dns", "tocsin.example.org", "--days", "30").exit_code == 0
    listed = json.loads(ca("list", folder, "-o", "json").stdout)
    assert [(one["name"], one["identity"]) for one in listed] == [
        ("ada", "spiffe://tocsin/client/payments/admin/ada"),
        ("edge", ""),
        ("gateway-1", "spiffe://tocsin/service/gateway"),
    ]
    table = ca("list", folder).stdout
    assert "spiffe://tocsin/service/gateway" in table
    # The key itself is in no output.
    assert "PRIVATE" not in table + issued.stdout


def test_a_new_authority_in_three_steps(folder: str) -> None:
    ca("issue", folder, "ingest", "--service", "ingest")
    first = Path(folder, "ingest", "certificate.pem").read_text()
    assert "next: tocsin ca rotate" in ca("rotate", folder, "--ca").stdout
    refused = ca("rotate", folder, "--forget", "-o", "json")
    assert refused.exit_code == 1
    assert "certificates of ingest" in error_of(refused)["message"]
    assert json.loads(ca("rotate", folder, "-o", "json").stdout)[0]["name"] == "ingest"
    assert Path(folder, "ingest", "certificate.pem").read_text() != first
    assert "the present authority alone is trusted" in ca("rotate", folder, "--forget").stdout
    assert Path(folder, "ingest", "ca.pem").read_text().count("BEGIN") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("issue", "ada", "--client", "ada"), "--client and --role are given together"),
        (("issue", "ada", "--role", "admin"), "--client and --role are given together"),
        (("issue", "x", "--client", "x", "--role", "admin", "--service", "ingest"), "found both"),
        (("issue", "x", "--client", "x", "--role", "root"), "root"),
        (("issue", "x", "--service", "kafka"), "kafka"),
        (("rotate", "--ca", "--forget"), "found both"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(folder: str, arguments: tuple[str, ...], problem: str) -> None:
    done = ca(arguments[0], folder, *arguments[1:])
    assert done.exit_code == 2
    assert problem in done.output


def test_what_cannot_be_done_is_refused_with_the_reason(tmp_path: Path, folder: str) -> None:
    assert "there is an authority already" in ca("init", folder).stderr
    done = ca("issue", str(tmp_path / "none"), "ingest", "--service", "ingest")
    assert done.exit_code == 1
    assert "there is no authority; `tocsin ca init " in done.stderr
    (tmp_path / "file").touch()
    assert ca("init", str(tmp_path / "file")).exit_code == 1
