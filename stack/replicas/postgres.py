"""A PostgreSQL primary and a synchronous standby on one machine: a commit is answered once both have it.

Promoting the standby is left to the caller, as to Patroni or an operator elsewhere. Nothing here decides that a
primary is dead: it must have ended before another one is promoted, or there are two.
"""

import os
import shutil
import signal
import subprocess
from datetime import timedelta
from functools import partial

from stack import unprivileged
from stack.ports import free_ports
from stack.postgres import (
    DATABASE,
    USER,
    check_postgres,
    create_cluster,
    create_database,
    postgres_binary,
    query_value,
    unprivileged_command,
)
from stack.processes import Processes
from stack.program import ProgramSpec, StartError
from stack.starter import Starter

_PROMOTE = "SELECT pg_promote(wait => true, wait_seconds => 30)"
_STANDBYS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"


class PostgresPair:
    """Two servers, named postgres-1 and postgres-2, one of which is the primary."""

    def __init__(self, processes: Processes, starter: Starter) -> None:
        self._processes = processes
        self._starter = starter
        self._ports = dict(zip(("postgres-1", "postgres-2"), free_ports(2), strict=True))
        self.primary, self.standby = self._ports

    @property
    def address(self) -> str:
        """The URL of both, with which a client finds the one that takes writes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports.values())
        return f"postgresql://{USER}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def start(self) -> None:
        """Start the primary, and the standby from a copy of it."""
        self._starter.start([partial(self._program, self.primary)])
        create_database(self._url(self.primary), DATABASE)
        self.attach_standby()

    def promote(self) -> None:
        """Make the standby the primary; the former one must have ended."""
        self.primary, self.standby = self.standby, self.primary
        query_value(self._url(self.primary), _PROMOTE)

    def attach_standby(self) -> None:
        """Copy the primary into the other server's empty folder, start it, and return when commits wait for it."""
        folder = self._processes.data(self.standby)
        shutil.rmtree(folder)
        self._processes.data(self.standby)
        if os.geteuid() == 0:
            shutil.chown(folder, *unprivileged.user())
        source = f"host=127.0.0.1 port={self._ports[self.primary]} user={USER} application_name={self.standby}"
        program = (*unprivileged_command(), str(postgres_binary("pg_basebackup")), "-D", str(folder / "db"))
        options = ("--dbname", source, "--wal-method", "stream", "--checkpoint", "fast", "--write-recovery-conf")
        copied = subprocess.run([*program, *options, "--no-sync"], capture_output=True, text=True, check=False)
        if copied.returncode != 0:
            raise StartError(f"the primary could not be copied\n{copied.stdout}{copied.stderr}")
        # A standby that is promoted has no standby of its own yet, so its commits must wait for none.
        with (folder / "db" / "postgresql.auto.conf").open("a") as config:
            config.write("synchronous_standby_names = ''\n")
        self._starter.start([partial(self._program, self.standby)])
        query_value(self._url(self.primary), f"ALTER SYSTEM SET synchronous_standby_names = '\"{self.standby}\"'")
        query_value(self._url(self.primary), "SELECT pg_reload_conf()")
        self._starter.wait_until_ready("the synchronous standby", self._check_synchronous)

    def _check_synchronous(self) -> None:
        if not query_value(self._url(self.primary), _STANDBYS):
            raise ConnectionError("no standby is synchronous yet")

    def _url(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self._ports[name]}/postgres"

    def _program(self, name: str) -> ProgramSpec:
        data, port = self._processes.data(name) / "db", self._ports[name]
        if not (data / "PG_VERSION").exists():
            create_cluster(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "jit": "off",
            # A crash of the server alone loses nothing, and no data outlive the machine's.
            "fsync": "off",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = (*unprivileged_command(), str(postgres_binary("postgres")), "-D", str(data), *options)
        return ProgramSpec(
            name=name,
            command=command,
            ports=(port,),
            check_ready=partial(check_postgres, self._url(name)),
            start_timeout=timedelta(seconds=60),
            stop_signal=signal.SIGINT,
        )
