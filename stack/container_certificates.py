"""Certificates and passwords for the containers of compose.yaml: what a start makes, in a volume that they share.

Each container mounts its own folder of it. Those of Kafka and Prometheus run as users of their images, in the group of
these files; PostgreSQL and Redis copy what is theirs while they are root (deploy/containers).
"""

import hashlib
from pathlib import Path

from stack.certificate_requests import CertificateRequest, certificate_files, server_request, service_request
from stack.certificates import ensure_certificates
from stack.secure_files import REDIS_USER, ensure_secret, present_time, write_secret

# Each service, and the name of its container.
_CONTAINERS = {
    "gateway": "api-gateway",
    "ingest": "log-ingest",
    "evaluator": "alert-rule-engine",
    "manager": "alert-manager",
    "notifier": "notification-service",
}
_KAFKA, _POSTGRES, _REDIS = "kafka", "postgres", "redis"
_SERVERS = (_KAFKA, _POSTGRES, _REDIS)
_GROUP_READABLE = 0o640
# Of Redis: whoever has a certificate may ask whether it answers, and the manager may do what it does.
_ACL = """\
user default on nopass resetkeys resetchannels -@all +ping
user {user} on #{digest} ~manager:* resetchannels -@all +get +set +del +ping +hello +client
"""


def container_requests() -> list[CertificateRequest]:
    """Return what the containers have certificates for; Kafka and Prometheus run as other users."""
    services = [service_request(service, [container]) for service, container in _CONTAINERS.items()]
    servers = [server_request(name, [name], group_readable=name == _KAFKA) for name in _SERVERS]
    prometheus, edge = service_request("prometheus", group_readable=True), server_request("edge", ["api-gateway"])
    # PostgreSQL knows its holder by the name, and has it be the owner of the tables.
    migrations = server_request("migrations", ["migrations"])
    return [*services, *servers, prometheus, edge, migrations]


def ensure(folder: str) -> None:
    """Issue what is missing or about to expire, and write what servers derive from it."""
    home = Path(folder)
    ensure_certificates(home, container_requests(), now=present_time())
    _write_keystore(home)
    # The image wants one for a new database; nobody logs in with it.
    ensure_secret(home / _POSTGRES / "password")
    password = ensure_secret(home / "manager" / "redis.password")
    digest = hashlib.sha256(password.encode()).hexdigest()
    write_secret(home / _REDIS / "users.acl", _ACL.format(user=REDIS_USER, digest=digest))


def _write_keystore(home: Path) -> None:
    """Write key and certificate into one file, as Kafka wants them."""
    files = certificate_files(home, _KAFKA)
    path = files.key.with_name("keystore.pem")
    write_secret(path, files.key.read_text() + files.certificate.read_text())
    path.chmod(_GROUP_READABLE)
