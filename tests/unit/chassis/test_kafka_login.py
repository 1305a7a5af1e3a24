from pathlib import Path

import pytest

from services.chassis.kafka import admin_config, consumer_config, login_config, producer_config
from services.chassis.kafka.login import LoginWatch
from services.chassis.settings import KafkaSettings, Secret, load_settings


class FakeClient:
    """Keeps the credentials that it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str) -> None:
        self.given.append((username, password))


@pytest.mark.parametrize(
    ("has_tls", "has_login", "protocol"),
    [(False, False, "PLAINTEXT"), (True, False, "SSL"), (False, True, "SASL_PLAINTEXT"), (True, True, "SASL_SSL")],
)
def test_every_client_has_the_same_way_in(*, has_tls: bool, has_login: bool, protocol: str) -> None:
    settings = KafkaSettings(
        brokers="h:1",
        kafka_sasl_mechanism="SCRAM-SHA-512" if has_login else "",
        kafka_sasl_user="u" if has_login else "",
        kafka_sasl_password=Secret("p" if has_login else ""),
        kafka_ca="ca" if has_tls else "",
        kafka_certificate="c" if has_tls else "",
        kafka_key="k" if has_tls else "",
    )
    login = login_config(settings)
    assert login["security.protocol"] == protocol
    assert ("ssl.ca.location" in login, "ssl.key.location" in login, "sasl.password" in login) == (
        has_tls,
        has_tls,
        has_login,
    )
    for config in (admin_config(settings), consumer_config(settings, "g"), producer_config(settings, "c")):
        assert login.items() <= config.items()


def test_the_name_of_a_broker_is_checked_unless_that_is_turned_off() -> None:
    for is_checked, algorithm in ((True, "https"), (False, "none")):
        settings = KafkaSettings(brokers="h:1", kafka_ca="ca", kafka_verify_host_name=is_checked)
        assert login_config(settings)["ssl.endpoint.identification.algorithm"] == algorithm


def test_a_changed_password_goes_to_the_client_and_changed_certificates_need_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.kafka.login._INTERVAL_SECONDS", 0.0)
    password, ca = tmp_path / "password", tmp_path / "ca"
    password.write_text("one")
    ca.write_text("one")
    environ = {
        "X_BROKERS": "h:1",
        "X_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "X_KAFKA_SASL_USER": "u",
        "X_KAFKA_SASL_PASSWORD_FILE": str(password),
        "X_KAFKA_CA": str(ca),
    }
    watch, client = LoginWatch(load_settings(KafkaSettings, "X_", environ)), FakeClient()
    assert not watch.needs_new_client(client)
    password.write_text("two")
    assert [watch.needs_new_client(client), watch.needs_new_client(client)] == [False, False]
    assert client.given == [("u", "two")]
    ca.unlink()
    assert not watch.needs_new_client(client)
    ca.write_text("two")
    assert [watch.needs_new_client(client), watch.needs_new_client(client)] == [True, True]
    watch.accept_files()
    assert not watch.needs_new_client(client)


def test_the_login_is_looked_at_once_a_second(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    ca.write_text("one")
    watch = LoginWatch(KafkaSettings(brokers="h:1", kafka_ca=str(ca)))
    assert not watch.needs_new_client(FakeClient())
    ca.write_text("two")
    assert not watch.needs_new_client(FakeClient())
