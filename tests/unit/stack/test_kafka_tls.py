import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from stack.certificate_requests import server_request
from stack.certificates import init_authority, issue
from stack.kafka_tls import KafkaTls, plaintext_listeners, tls_listeners
from stack.ports import Ports


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def a_tls(folder: Path, sasl_port: int = 0) -> KafkaTls:
    init_authority(folder, now=datetime.now(UTC))
    files = issue(folder, server_request("kafka"), now=datetime.now(UTC)).files
    return KafkaTls(files=files, sasl_port=sasl_port, plain_passwords={"ingest": "hunter2"})


def test_with_tls_nobody_gets_in_without_a_certificate(tmp_path: Path) -> None:
    lines = properties(tls_listeners(Ports(), a_tls(tmp_path), tmp_path))
    assert lines["listeners"] == "TLS://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert "PLAINTEXT" not in str(lines)
    assert lines["ssl.client.auth"] == "required"
    assert not [name for name in lines if "sasl" in name]
    assert stat.S_IMODE((tmp_path / "keystore.pem").stat().st_mode) == 0o600


def test_of_those_who_get_in_only_the_users_may_do_something(tmp_path: Path) -> None:
    tls = a_tls(tmp_path)
    assert not [name for name in properties(tls_listeners(Ports(), tls, tmp_path)) if "super" in name]
    lines = properties(tls_listeners(Ports(), replace(tls, users=("kafka", "ingest")), tmp_path))
    assert lines["authorizer.class.name"].endswith(".StandardAuthorizer")
    assert lines["super.users"] == "User:CN=kafka;User:kafka;User:CN=ingest;User:ingest"


def test_at_the_port_for_passwords_each_mechanism_is_taken_and_no_repr_shows_them(tmp_path: Path) -> None:
    tls = a_tls(tmp_path, sasl_port=9099)
    lines = properties(tls_listeners(Ports(), tls, tmp_path))
    assert lines["advertised.listeners"] == "TLS://127.0.0.1:9092,SASL://127.0.0.1:9099"
    assert lines["listener.name.sasl.sasl.enabled.mechanisms"] == "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN"
    assert 'user_ingest="hunter2";' in lines["listener.name.sasl.plain.sasl.jaas.config"]
    assert "hunter2" not in repr(tls)


def test_without_tls_the_broker_listens_on_loopback_alone() -> None:
    for value in properties(plaintext_listeners(Ports())).values():
        assert all("://127.0.0.1:" in one for one in value.split(","))
