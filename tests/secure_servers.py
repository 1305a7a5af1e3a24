"""PostgreSQL and Redis with TLS and passwords, from this machine's packages; those of the set-up have no TLS."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stack import unprivileged
from stack.certificate_requests import CertificateFiles, server_request
from stack.certificates import init_authority, issue
from stack.guard import guarded
from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec
from stack.replicas.redis import RedisAccess
from stack.starter import Starter
from tests.tools import tool_path

# Answers on this machine too, and stands in no certificate.
OTHER_HOST = "127.0.0.2"
PASSWORD = "first/pass#word"
CERTIFIED_USER = "certified"
SENTINEL_PASSWORD = "sentinel/pass#word"
# What stands in docs/operations.md: with any of these less the client does not work.
REDIS_CLUSTER_RIGHTS = "+cluster|slots +command"
REDIS_SENTINEL_RIGHTS = "+sentinel|masters"
_ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """A folder with servers, and an authority for their certificates."""

    path: Path
    processes: Processes

    def issue(self, name: str) -> CertificateFiles:
        """Return a certificate, new at each call, under the same paths."""
        return issue(self.path / "certificates", server_request(name), now=datetime.now(UTC)).files

    def start(self, program: ProgramSpec) -> None:
        """Return when the server is ready."""
        Starter(self.processes, lambda _: None).start([lambda: program])


def write_secret(path: Path, value: str) -> None:
    """Write a secret as those do who rotate it."""
    path.write_text(f"{value}\n")


@contextmanager
def server_folder(path: Path) -> Iterator[ServerFolder]:
    """Give a folder, and stop at the end what was started in it."""
    init_authority(path / "certificates", now=datetime.now(UTC))
    processes = Processes(path)
    with guarded(path):
        try:
            yield ServerFolder(path, processes)
        finally:
            Starter(processes, lambda _: None).stop(processes.running())


def postgres_over_tls(folder: ServerFolder, ports: Ports) -> ProgramSpec:
    """Return a PostgreSQL that takes alertuser by password and CERTIFIED_USER by certificate, both only over TLS."""
    data = folder.processes.data("postgres") / "cluster"
    data.mkdir()
    password = data.parent / "password"
    password.write_text(PASSWORD)
    files = folder.issue("postgres")
    own = [shutil.copy(file, data.parent / file.name) for file in (files.certificate, files.key, files.ca)]
    if os.geteuid() == 0:
        for path in (data, password, *own):
            shutil.chown(path, *unprivileged.user())
    initdb = ("-D", str(data), "--username=alertuser", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync")
    subprocess.run([*_unprivileged(), _tool("initdb"), *initdb], check=True, capture_output=True)
    (data / "pg_hba.conf").write_text(
        f"hostssl all {CERTIFIED_USER} all cert\nhostssl all alertuser all scram-sha-256\n"
    )
    certificate, key, ca = map(str, own)
    settings = {
        "listen_addresses": f"127.0.0.1,{OTHER_HOST}",
        "port": str(ports.postgres),
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": certificate,
        "ssl_key_file": key,
        "ssl_ca_file": ca,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return ProgramSpec(
        name="postgres",
        command=(*_unprivileged(), _tool("postgres"), "-D", str(data), *options),
        ports=ports.of("postgres"),
        check_ready=lambda: subprocess.run(
            [_tool("pg_isready"), "-h", "127.0.0.1", "-p", str(ports.postgres)], check=True, capture_output=True
        ),
    )


def redis_over_tls(folder: ServerFolder, ports: Ports) -> ProgramSpec:
    """Return a Redis that wants a certificate and a password, of a user who may do only what the manager does."""
    data = folder.processes.data("redis")
    files = folder.issue("redis")
    (data / "users.acl").write_text(
        f"user default off\nuser tocsin on >{PASSWORD} ~tocsin:* -@all +get +set +del +ping +hello +client\n"
        "user admin on >admin ~* &* +@all\n"
    )
    config = data / "redis.conf"
    config.write_text(f"""\
port 0
tls-port {ports.redis}
bind 127.0.0.1 {OTHER_HOST}
dir {data}
save ""
aclfile {data / "users.acl"}
tls-cert-file {files.certificate}
tls-key-file {files.key}
tls-ca-cert-file {files.ca}
""")
    return ProgramSpec(
        name="redis",
        command=(_tool("redis-server"), str(config)),
        files=(config,),
        ports=ports.of("redis"),
        check_ready=lambda: socket.create_connection(("127.0.0.1", ports.redis), timeout=1).close(),
    )


def replicated_redis_access(folder: ServerFolder) -> RedisAccess:
    """Return how servers that replace each other know each other, and clients, by certificates and users.

    What the manager may do there stands in docs/operations.md.
    """
    data = folder.processes.data("redis-users")
    files = folder.issue("redis")
    servers, sentinels = data / "servers.acl", data / "sentinels.acl"
    admin = f"user admin on >{_ADMIN} ~* &* +@all\n"
    own = "+get +set +del +ping +hello +client"
    servers.write_text(
        f"user default off\nuser tocsin on >{PASSWORD} ~tocsin:* -@all {own} {REDIS_CLUSTER_RIGHTS}\n{admin}"
    )
    sentinels.write_text(
        f"user default off\nuser watcher on >{SENTINEL_PASSWORD} -@all {REDIS_SENTINEL_RIGHTS}\n{admin}"
    )
    tls = {
        "--tls-cert-file": files.certificate,
        "--tls-key-file": files.key,
        "--tls-ca-cert-file": files.ca,
        "--tls-replication": "yes",
    }
    replication = {
        "--tls-cluster": "yes",
        "--masteruser": "admin",
        "--masterauth": _ADMIN,
        "--aclfile": servers,
    }
    return RedisAccess(
        server=Path(_tool("redis-server")),
        command_line=Path(_tool("redis-cli")),
        is_tls=True,
        server_options=_options(tls),
        replication_options=_options(replication),
        sentinel_lines=(
            f"aclfile {sentinels}",
            "sentinel auth-user {group} admin",
            "sentinel auth-pass {group} " + _ADMIN,
            "sentinel sentinel-user admin",
            f"sentinel sentinel-pass {_ADMIN}",
        ),
        command_line_options=(
            *("--tls", "--cert", str(files.certificate), "--key", str(files.key), "--cacert", str(files.ca)),
            *("--user", "admin", "--pass", _ADMIN, "--no-auth-warning"),
        ),
        client_options={
            "username": "admin",
            "password": _ADMIN,
            "ssl": True,
            "ssl_certfile": str(files.certificate),
            "ssl_keyfile": str(files.key),
            "ssl_ca_certs": str(files.ca),
        },
    )


def _options(pairs: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(part) for pair in pairs.items() for part in pair)


def _tool(name: str) -> str:
    server = tool_path(name)
    # The programs of PostgreSQL lie side by side.
    path = server or Path(str(tool_path("postgres"))).with_name(name)
    return str(path)


def _unprivileged() -> tuple[str, ...]:
    """Return what goes in front of a program that refuses to run as root."""
    return () if os.geteuid() != 0 else (sys.executable, "-I", str(Path(unprivileged.__file__)))
