"""The local system as a whole, servers included: start, stop, state. `make up`, `down` and `status` end here."""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from services.chassis.settings import KafkaSettings
from stack.first_key import create_first_key
from stack.folder_lock import ignoring_interrupts, lock_folder, sigterm_as_interrupt, take_over_folder
from stack.kafka import check_topics_kept, tls_client
from stack.port_conflicts import refuse_taken_ports
from stack.ports import Ports
from stack.processes import Processes
from stack.program import StartupProgress
from stack.readiness import GREETED, ServiceCondition, server_condition, service_condition
from stack.routes_check import refuse_wrong_routes
from stack.secure_files import SecureFiles, present_time, write_secret
from stack.servers import (
    ADDRESS_VARIABLES,
    SERVERS,
    check_server,
    server_program,
    topic_replicas,
)
from stack.sink_addresses import sink_variables
from stack.start_options import RequestedOptions
from stack.start_plan import is_secure_start, plan_start
from stack.starter import Starter
from stack.supervisor import SUPERVISOR, read_restarts, start_supervisor
from stack.system import System, stages
from stack.topics import BROKER_DEFAULT, create_topics
from stack.wiring import ROOT, SERVICES, Wiring, database_environ, stored_wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """One program of the system, as it is now."""

    name: str
    # None for one that has ended.
    pid: int | None
    log: Path
    restarts: str
    # Why a service that runs does not serve; empty when it does.
    problem: str = ""
    # What it does without while it serves.
    degradation: str = ""

    @property
    def is_missing(self) -> bool:
        """Return whether it should run and does not."""
        return self.pid is None


# Names of what should run.
_EXPECTED = "expected.json"
# Who acts with the first key.
_ADMIN = "admin"
# An event of the manager's log, on the first start with its database.
_RULES_CREATED = "default_rules_created"
_SOUND = ServiceCondition()
_NO_REQUEST = RequestedOptions()
# A system that is left running measures itself.
_LEFT_RUNNING = {"MANAGER_CANARY_INTERVAL": "15s"}


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the local system: TOCSIN_RUN, or .run beside the sources."""
    return Path(environ.get("TOCSIN_RUN") or ROOT / ".run").resolve()


def start_stack(
    progress: StartupProgress,
    *,
    folder: Path | None = None,
    ports: Ports | None = None,
    requested: RequestedOptions = _NO_REQUEST,
    servers_only: bool = False,
    external: Mapping[str, str] | None = None,
    supervised: bool = False,
) -> Wiring:
    """Start what does not run yet, and return when all is ready; on a failure or Ctrl-C stop what was started.

    Options and variables that are not given are the stored ones. Settings and a routes file are checked before anything
    is stopped or started. Servers in `external`, a map from name to address, are not started; None: those that the
    environment or the last start names. With `supervised`, a program that ends by itself later is started again.
    Raise StartError, JarsError, KeyRefusedError, FolderLockError, RoutesFileError, SettingsRefusedError, TopicsError,
    OSError or ValueError, each with a text for a person.
    """
    home = folder or default_folder()
    with lock_folder(home), sigterm_as_interrupt():
        processes = Processes(home)
        _prepare_secure_files(home, requested, progress)
        plan = plan_start(home, requested, os.environ, ports=ports, external=external, servers_only=servers_only)
        wiring = replace(plan.wiring, defaults=_LEFT_RUNNING if supervised else {})
        for line in plan.lines:
            progress(line)
        if not servers_only:
            _check_routes(wiring, processes)
        processes.stop(SUPERVISOR)
        if strays := processes.stop_strays():
            progress(f"{strays} processes of an interrupted start were stopped")
        own = [name for name in SERVERS if name not in wiring.external]
        before, services = ((), ()) if servers_only else stages(wiring.options)
        refuse_taken_ports([*own, *before, *services], wiring.ports, processes.running())
        starter = Starter(processes, progress)
        try:
            _start_servers(processes, starter, progress, wiring)
            wiring.write(home)
            if not servers_only:
                _start_services(processes, starter, progress, wiring)
            _write_expected(processes, supervised=supervised)
        except BaseException:
            with ignoring_interrupts():
                starter.roll_back()
            raise
        finally:
            if supervised:
                start_supervisor(processes)
        return wiring


def stop_stack(progress: StartupProgress, *, folder: Path | None = None, purge: bool = False) -> int:
    """Stop everything, with `purge` remove all data, and return how many programs ran. It is safe to repeat."""
    home = folder or default_folder()
    if not home.exists():
        return 0
    with take_over_folder(home), ignoring_interrupts():
        processes = Processes(home)
        # First, or it would start again what is stopped here.
        processes.stop(SUPERVISOR)
        (home / _EXPECTED).unlink(missing_ok=True)
        running = processes.running()
        Starter(processes, progress).stop(running)
        strays = processes.stop_strays()
        if purge:
            shutil.rmtree(home, ignore_errors=True)
            progress(f"{home} removed")
    return len(running) + strays


def stack_status(*, folder: Path | None = None) -> list[StackState]:
    """Return what runs and whether it serves, and what should run and does not."""
    home = folder or default_folder()
    processes = Processes(home)
    pids = {running.name: running.pid for running in processes.running()}
    restarts = read_restarts(home) if SUPERVISOR in pids else {}
    waiting = [name for name, one in restarts.items() if one.due is not None]
    missing = [name for name in dict.fromkeys([*_read_expected(home), *waiting]) if name not in pids]
    conditions = _conditions(pids, stored_wiring(home))
    return [
        StackState(
            name=name,
            pid=pids.get(name),
            log=processes.log(name),
            restarts=str(restarts.get(name, "")),
            problem=conditions.get(name, _SOUND).problem,
            degradation=conditions.get(name, _SOUND).degradation,
        )
        for name in (*pids, *missing)
    ]


def _start_services(processes: Processes, starter: Starter, progress: StartupProgress, wiring: Wiring) -> None:
    System(processes, wiring, starter).start()
    if any(_RULES_CREATED in line for line in processes.lines_of_start("manager")):
        progress("this first start created the default rules")
    if wiring.secure is not None and not wiring.secure.admin_key.exists():
        key = create_first_key(database_environ(wiring), name=_ADMIN)
        write_secret(wiring.secure.admin_key, key.text)
        progress(f"the first key, of the role {key.role}, shown this once, works in a few seconds: {key.text}")


def _prepare_secure_files(home: Path, requested: RequestedOptions, progress: StartupProgress) -> None:
    if is_secure_start(home, requested) and (issued := SecureFiles(home=home).prepare(present_time())):
        progress(f"certificates issued for {', '.join(issued)}")


def _conditions(running: Collection[str], wiring: Wiring) -> dict[str, ServiceCondition]:
    """Ask all programs at once, since one that is frozen takes its time."""
    context = wiring.client_context()

    def ask(name: str) -> ServiceCondition:
        if name in SERVICES:
            return service_condition(getattr(wiring.ports, f"{name}_admin"), context)
        return server_condition(name, wiring.ports.of(name)[0])

    asked = [name for name in running if name in SERVICES or name in GREETED]
    with ThreadPoolExecutor(max_workers=len(SERVICES) + len(GREETED)) as pool:
        return dict(zip(asked, pool.map(ask, asked), strict=True))


def _check_routes(wiring: Wiring, processes: Processes) -> None:
    """Raise RoutesFileError when there is a routes file that cannot be used."""
    if wiring.routes is not None:
        refuse_wrong_routes(wiring.routes, sink_variables(wiring.options, wiring.ports, processes.data("sinks")))


def _write_expected(processes: Processes, *, supervised: bool) -> None:
    expected = [one.name for one in processes.running()]
    # Where nothing runs, there is nothing to supervise.
    supervisor = [SUPERVISOR] if expected and supervised else []
    (processes.folder / _EXPECTED).write_text(json.dumps([*expected, *supervisor]))


def _read_expected(folder: Path) -> list[str]:
    """Return what should run: what ran at the end of the last start, until the system is stopped."""
    try:
        return list(json.loads((folder / _EXPECTED).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return []


def _start_servers(processes: Processes, starter: Starter, progress: StartupProgress, wiring: Wiring) -> None:
    for name, address in wiring.external.items():
        starter.wait_until_ready(f"the {name} of {ADDRESS_VARIABLES[name]}", partial(check_server, name, address))
        progress(f"{name} answers at the address given")
    own = [name for name in SERVERS if name not in wiring.external]
    program = partial(server_program, processes=processes, ports=wiring.ports, progress=progress, secure=wiring.secure)
    starter.start([partial(program, name) for name in own])
    replicas = topic_replicas() if "kafka" in wiring.external else BROKER_DEFAULT
    create_topics(_kafka_client(wiring), replicas=replicas)
    if "kafka" not in wiring.external:
        starter.wait_until_ready("kafka", partial(check_topics_kept, processes))


def _kafka_client(wiring: Wiring) -> str | KafkaSettings:
    if wiring.secure is None or "kafka" in wiring.external:
        return wiring.addresses.kafka
    return tls_client(wiring.addresses.kafka, wiring.secure.kafka)
