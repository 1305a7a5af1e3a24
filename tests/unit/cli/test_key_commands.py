"""tocsin keys, tocsin audit, and the credentials of every command."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from cli import keys
from cli.credentials import Credentials, read_credentials
from cli.main import app
from services.access.keys import read_key
from services.domain.audit_record import AuditOutcome
from stack.first_key import FirstKey, KeyRefusedError
from stack.ports import Ports
from stack.postgres import as_user
from stack.secure_files import SecureFiles
from stack.servers import local_addresses
from stack.wiring import Wiring
from tests.fakes.access import an_audit_record
from tests.fakes.certificates import Certificates
from tests.fakes.edge import Edge
from tests.unit.cli.commands import Command, error_of
from tocsin.alerts.v1.alert_service_pb2 import ListAlertsResponse

KEY = "tocsin_aaaqeayeauda_CAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJic"


def test_a_new_key_alone_is_on_standard_output(tocsin: Command, edge: Edge) -> None:
    done = tocsin("keys", "create", "--name", "ci", "--role", "ingest", "--service", "pay", "--expires", "90d")

    assert done.exit_code == 0, done.output
    # The server logs in this process.
    parts = read_key(done.stdout.splitlines()[-1])
    assert parts is not None
    assert f"tocsin keys revoke {parts[0]}" in done.stderr
    (stored,) = edge.store.tables.access.keys.values()
    assert (stored.name, stored.role, stored.services, stored.secret_hash) == ("ci", "ingest", ("pay",), parts[1])
    assert stored.expire_time is not None


def test_keys_are_listed_and_revoked(tocsin: Command) -> None:
    # The server logs in this process.
    output = tocsin("keys", "create", "--name", "ci", "--role", "editor", "-o", "json").stdout
    made = json.loads(output[output.index("{") :])
    tocsin("keys", "create", "--name", "ann", "--role", "ADMIN")

    assert read_key(made["text"]) is not None
    key_id = made["key"]["id"]
    table = tocsin("keys", "list").stdout
    assert all(text in table for text in (key_id, "ACTIVE", "ci", "editor", "ann", "admin"))
    assert f"{key_id} of ci is revoked" in tocsin("keys", "revoke", key_id).stdout
    assert "was revoked before" in tocsin("keys", "revoke", key_id).stdout
    listed = json.loads(tocsin("keys", "list", "--state", "revoked", "--name", "ci", "-o", "json").stdout)
    assert [(key["id"], key["state"]) for key in listed] == [(key_id, "REVOKED")]
    assert "Last used" in tocsin("keys", "list", "-o", "wide").stdout
    unknown = tocsin("keys", "revoke", "nobody", "-o", "json")
    assert (unknown.exit_code, error_of(unknown)["code"]) == (1, "NOT_FOUND")


def test_a_key_that_is_not_allowed_is_refused(tocsin: Command) -> None:
    assert tocsin("keys", "create", "--name", "ci").exit_code == 2
    assert tocsin("keys", "create", "--name", "ci", "--role", "service").exit_code == 2
    done = tocsin("keys", "create", "--name", "two words", "--role", "viewer", "-o", "json")
    assert [detail["field"] for detail in error_of(done)["details"]] == ["name"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def create(variables: Any, *, name: str, role: str, tenant: str) -> FirstKey:
        found.append((dict(variables), name, role, tenant))
        if name == "bad":
            raise KeyRefusedError("name: expected another")
        return FirstKey(id="aaaqeayeauda", name=name, role=role, tenant=tenant or "default", text=KEY)

    monkeypatch.setattr(keys, "create_first_key", create)
    for name in ("MANAGER_DATABASE_URL", "MANAGER_DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_a_first_key_is_made_in_the_database(tocsin: Command, asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://somewhere\n")
    options = ("--bootstrap", "--database-url-file", str(tmp_path / "url"))

    done = tocsin("keys", "create", "--name", "ann", *options)
    assert done.stdout.strip() == KEY
    made = json.loads(tocsin("keys", "create", "--name", "ann", "--role", "viewer", *options, "-o", "json").stdout)
    expected = {"id": "aaaqeayeauda", "name": "ann", "role": "VIEWER", "tenant": "default"}
    assert made == {"key": expected, "text": KEY}
    variables = {"MANAGER_DATABASE_URL": "postgresql://somewhere"}
    assert asked == [(variables, "ann", "admin", ""), (variables, "ann", "viewer", "")]
    refused = tocsin("keys", "create", "--name", "bad", *options)
    assert (refused.exit_code, "name: expected another" in refused.stderr) == (1, True)
    assert tocsin("keys", "create", "--name", "ann", "--bootstrap", "--expires", "1d").exit_code == 2
    missing = ("--bootstrap", "--database-url-file", str(tmp_path / "missing"))
    assert tocsin("keys", "create", "--name", "ann", *missing).exit_code == 2


def test_the_database_is_that_of_the_variable_or_of_the_last_system(
    tocsin: Command, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tocsin("keys", "create", "--name", "ann", "--bootstrap")
    monkeypatch.setenv("MANAGER_DATABASE_URL", "postgresql://named")
    tocsin("keys", "create", "--name", "ann", "--bootstrap")
    assert asked[0][0] == {
        "MANAGER_DATABASE_URL": "postgresql://manager@127.0.0.1:5432/alertdb",
        "MANAGER_MIGRATION_DATABASE_URL": "postgresql://alertuser@127.0.0.1:5432/alertdb",
    }
    assert asked[1][0] == {}


def test_the_last_systems_database_is_asked_with_its_password(
    tocsin: Command, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = Ports()
    Wiring(addresses=local_addresses(ports), ports=ports, secure=SecureFiles(home=tmp_path)).write(tmp_path)
    monkeypatch.setenv("TOCSIN_RUN", str(tmp_path))
    tocsin("keys", "create", "--name", "ann", "--bootstrap")
    files = SecureFiles(home=tmp_path)
    assert asked[0][0] == {
        "MANAGER_DATABASE_URL": as_user(local_addresses(ports).postgres, "manager"),
        "MANAGER_DATABASE_PASSWORD_FILE": str(files.service_password("manager")),
        "MANAGER_MIGRATION_DATABASE_URL": local_addresses(ports).postgres,
        "MANAGER_MIGRATION_DATABASE_PASSWORD_FILE": str(files.postgres_password),
    }


def test_the_audit_log_is_shown_and_filtered(tocsin: Command, edge: Edge) -> None:
    edge.store.tables.access.audit |= {
        "done": an_audit_record(id="done", resource="rule-7"),
        "refused": an_audit_record(
            id="refused",
            create_time=an_audit_record().create_time + timedelta(seconds=1),
            actor="",
            actor_kind="",
            role="",
            method="tocsin.alerts.v1.AlertService/ListAlerts",
            outcome=AuditOutcome.REFUSED,
            code="UNAUTHENTICATED",
            reason="UNAUTHENTICATED",
            count=41,
        ),
    }

    table = tocsin("audit").stdout
    assert all(text in table for text in ("CreateAlertRule", "rule-7", "ci", "DONE", "192.0.2.1"))
    assert all(text in table for text in ("ListAlerts", "REFUSED UNAUTHENTICATED", "41"))
    assert table.index("ListAlerts") < table.index("CreateAlertRule")
    wide = tocsin("audit", "-o", "wide", "--actor", "ci").stdout
    assert "tocsin.rules.v1.AlertRuleService/CreateAlertRule" in wide
    assert "ListAlerts" not in wide
    shown = json.loads(tocsin("audit", "--outcome", "refused", "--method", "alerts", "-o", "json").stdout)
    assert [(record["id"], record["count"]) for record in shown] == [("refused", 41)]
    assert json.loads(tocsin("audit", "--since", "1s", "-o", "json").stdout) == []
    assert json.loads(tocsin("audit", "--resource", "rule-7", "-n", "1", "-o", "json").stdout)[0]["id"] == "done"


class Listener(grpc.GenericRpcHandler):
    """Keeps the metadata of calls, and answers with no alerts."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []

    def answer(self, _request: bytes, context: Any) -> ListAlertsResponse:
        self.metadata.append(dict(context.invocation_metadata()))
        return ListAlertsResponse()

    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002  (the library's name)
        return grpc.unary_unary_rpc_method_handler(
            self.answer, response_serializer=ListAlertsResponse.SerializeToString
        )


@pytest.fixture
def listener() -> Iterator[tuple[Listener, str]]:
    found = Listener()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[found])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found, f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOCSIN_KEY", "TOCSIN_KEY_FILE", "TOCSIN_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_key_goes_along_with_each_call_and_only_when_there_is_one(
    listener: tuple[Listener, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")

    def listed(*options: str) -> str:
        done = CliRunner().invoke(app, [*options, "alerts", "list", "--server", listener[1]])
        assert done.exit_code == 0, done.output
        assert KEY not in done.output
        return str(listener[0].metadata[-1].get("authorization", ""))

    assert listed() == ""
    assert listed("--key-file", str(tmp_path / "key")) == f"Bearer {KEY}"
    monkeypatch.setenv("TOCSIN_KEY", "tocsin_other")
    assert listed() == "Bearer tocsin_other"
    monkeypatch.setenv("TOCSIN_KEY_FILE", str(tmp_path / "key"))
    assert listed() == f"Bearer {KEY}"


def test_a_key_in_plaintext_to_another_machine_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_KEY", KEY)
    done = CliRunner().invoke(app, ["alerts", "list", "--server", "tocsin.invalid:1"])
    assert "warning: the key goes to tocsin.invalid:1 in plaintext" in done.stderr
    assert KEY not in done.output


@pytest.mark.parametrize("content", ["", " \n", "two words", "x" * 9000, "k\x00y", "ké"])
def test_a_file_without_a_key_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    done = CliRunner().invoke(app, ["--key-file", str(tmp_path / "key"), "alerts", "list"])
    assert done.exit_code == 2
    assert "expected a" in done.stderr
    assert not content.strip() or content not in done.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for option in ("--key-file", "--ca-file"):
        done = CliRunner().invoke(app, [option, str(tmp_path / "missing"), "alerts", "list"])
        assert (done.exit_code, "No such file" in done.stderr) == (2, True)


def test_with_an_authority_calls_go_by_tls(listener: tuple[Listener, str], tmp_path: Path) -> None:
    authority = Certificates(tmp_path).service("manager").ca
    done = CliRunner().invoke(
        app, ["--ca-file", str(authority), "alerts", "list", "--server", listener[1], "-o", "json"]
    )
    assert (done.exit_code, listener[0].metadata) == (3, [])


def test_credentials_do_not_show_the_key() -> None:
    assert KEY not in repr(read_credentials(None, None, {"TOCSIN_KEY": KEY}))
    assert read_credentials(None, None, {}) == Credentials()
