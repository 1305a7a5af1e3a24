"""Kafka over TLS: who connects needs a certificate of the same authority, or at a port of its own a password."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stack.certificate_requests import CertificateFiles
from stack.ports import Ports

_LOGIN = "org.apache.kafka.common.security"
_SCRAM = ("SCRAM-SHA-512", "SCRAM-SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTls:
    """The broker's certificate, and a second port at which clients log in with a password; 0: there is none."""

    files: CertificateFiles
    # The names in certificates, and at the second port of users, that may do everything; others may do nothing. Empty:
    # who gets in may do everything.
    users: tuple[str, ...] = ()
    sasl_port: int = 0
    # By user, of the mechanism PLAIN. Those of SCRAM are in the cluster, where clients with a certificate put them.
    plain_passwords: Mapping[str, str] = field(default_factory=dict, repr=False)


def plaintext_listeners(ports: Ports) -> str:
    """Return the part of a broker's configuration that says where it listens, without TLS."""
    return f"""\
listeners=PLAINTEXT://127.0.0.1:{ports.kafka},CONTROLLER://127.0.0.1:{ports.kafka_controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{ports.kafka}
"""


def tls_listeners(ports: Ports, tls: KafkaTls, folder: Path) -> str:
    """Return the same with TLS; write the broker's key and certificate into the folder, as Kafka wants them."""
    store = folder / "keystore.pem"
    store.touch(mode=0o600)
    store.write_text(tls.files.key.read_text() + tls.files.certificate.read_text())
    clients = {"TLS": ports.kafka} | ({"SASL": tls.sasl_port} if tls.sasl_port else {})
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in clients.items())
    text = f"""\
listeners={listeners},CONTROLLER://127.0.0.1:{ports.kafka_controller}
advertised.listeners={listeners}
listener.security.protocol.map=TLS:SSL,SASL:SASL_SSL,CONTROLLER:SSL
inter.broker.listener.name=TLS
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={tls.files.ca}
ssl.client.auth=required
"""
    return text + _rights(tls.users) + (_sasl(tls.plain_passwords) if tls.sasl_port else "")


def _rights(users: Sequence[str]) -> str:
    if not users:
        return ""
    names = ";".join(f"User:CN={user};User:{user}" for user in users)
    return f"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users={names}\n"


def _sasl(passwords: Mapping[str, str]) -> str:
    listener = "listener.name.sasl"
    users = "".join(f' user_{name}="{password}"' for name, password in passwords.items())
    logins = dict.fromkeys(_SCRAM, f"{_LOGIN}.scram.ScramLoginModule required;")
    logins["PLAIN"] = f"{_LOGIN}.plain.PlainLoginModule required{users};"
    lines = [f"{listener}.{name.lower()}.sasl.jaas.config={login}" for name, login in logins.items()]
    return "\n".join(
        [f"{listener}.ssl.client.auth=none", f"{listener}.sasl.enabled.mechanisms={','.join(logins)}", *lines, ""]
    )
