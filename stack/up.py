"""The local system as a whole: up, down, status."""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stack import servers
from stack.claim import claimed, taken_over
from stack.listening import refuse_taken
from stack.ports import Ports
from stack.processes import Processes
from stack.servers import SERVERS, Addresses, Progress
from stack.signals import ended_by_sigterm, undisturbed
from stack.starting import Starter
from stack.system import System, stages
from stack.topics import create_topics
from stack.wiring import ROOT, Wiring

_FILE = "system.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One program of the system, as it is now."""

    name: str
    pid: int
    log: Path


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Give the folder of the local system: TOCSIN_RUN, or .run beside the sources."""
    return Path(environ.get("TOCSIN_RUN") or ROOT / ".run").resolve()


def up(
    progress: Progress,
    *,
    folder: Path | None = None,
    ports: Ports | None = None,
    otlp: str = "",
    routes: Path | None = None,
    servers_only: bool = False,
    elsewhere: Mapping[str, str] | None = None,
) -> Wiring:
    """Start what does not run yet, and return when everything answers; on a failure or Ctrl-C leave nothing behind.

    Servers whose addresses stand in `elsewhere` are not started; when it is None, those that the environment gives.
    Raises StartError, JarsError, ClaimError or OSError, each with a text for a person.
    """
    home, chosen = folder or default_folder(), ports or Ports.read()
    given = servers.given() if elsewhere is None else elsewhere
    with claimed(home), ended_by_sigterm():
        processes = Processes(home)
        if strays := processes.sweep():
            progress(f"{strays} processes of a start that was cut off are ended")
        own = [name for name in SERVERS if name not in given]
        before, services = ((), ()) if servers_only else stages(routes)
        refuse_taken([*own, *before, *services], chosen, processes.running())
        starter = Starter(processes, progress)
        try:
            addresses = _start_servers(processes, starter, progress, chosen, given)
            connected = Wiring(addresses=addresses, ports=chosen, otlp=otlp, routes=routes)
            _write(home / _FILE, connected)
            if not servers_only:
                System(processes, connected, starter).start()
        except BaseException:
            with undisturbed():
                starter.take_back()
            raise
        return connected


def down(progress: Progress, *, folder: Path | None = None, purge: bool = False) -> int:
    """Stop everything, and with `purge` remove all data; say how many programs were running. Always safe to repeat."""
    home = folder or default_folder()
    if not home.exists():
        return 0
    with taken_over(home), undisturbed():
        processes = Processes(home)
        running = processes.running()
        Starter(processes, progress).stop(running)
        strays = processes.sweep()
        if purge:
            shutil.rmtree(home, ignore_errors=True)
            progress(f"{home} removed")
    return len(running) + strays


def status(*, folder: Path | None = None) -> list[State]:
    """List what runs."""
    processes = Processes(folder or default_folder())
    return [State(name=one.name, pid=one.pid, log=processes.log(one.name)) for one in processes.running()]


def wiring(*, folder: Path | None = None) -> Wiring | None:
    """Tell how the system that was last started here is connected; None when there has been none."""
    path = (folder or default_folder()) / _FILE
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return Wiring(addresses=Addresses(**record["addresses"]), ports=Ports(**record["ports"]), otlp=record["otlp"])


def _start_servers(
    processes: Processes, starter: Starter, progress: Progress, ports: Ports, elsewhere: Mapping[str, str]
) -> Addresses:
    for name, address in elsewhere.items():
        starter.await_answer(f"the {name} of {servers.VARIABLES[name]}", partial(servers.answers, name, address))
        progress(f"{name} answers at the address given")
    own = [name for name in SERVERS if name not in elsewhere]
    starter.start([partial(servers.program, name, processes, ports, progress) for name in own])
    addresses = dataclasses.replace(servers.local(ports), **elsewhere)
    create_topics(addresses.kafka)
    return addresses


def _write(path: Path, connected: Wiring) -> None:
    record = {
        "addresses": dataclasses.asdict(connected.addresses),
        "ports": dataclasses.asdict(connected.ports),
        "otlp": connected.otlp,
    }
    path.touch(mode=0o600)  # an address may carry a password
    path.write_text(json.dumps(record, indent=2) + "\n")
