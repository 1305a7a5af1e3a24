"""The local system as a whole: up, down, status."""

import dataclasses
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
from stack.supervisor import NAME as SUPERVISOR
from stack.supervisor import restarts_in, supervise
from stack.system import System, stages
from stack.topics import create_topics
from stack.wiring import ROOT, Wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One program of the system, as it is now."""

    name: str
    # None for one that has ended.
    pid: int | None
    log: Path
    restarts: str


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
    supervised: bool = False,
) -> Wiring:
    """Start what does not run yet, and return when everything answers; on a failure or Ctrl-C leave nothing behind.

    Servers whose addresses stand in `elsewhere` are not started; when it is None, those that the environment gives.
    With `supervised`, what ends by itself later is started again.
    Raises StartError, JarsError, ClaimError, TopicsError or OSError, each with a text for a person.
    """
    home, chosen = folder or default_folder(), ports or Ports.read()
    given = servers.given() if elsewhere is None else elsewhere
    with claimed(home), ended_by_sigterm():
        processes = Processes(home)
        processes.stop(SUPERVISOR)
        if strays := processes.sweep():
            progress(f"{strays} processes of a start that was cut off are ended")
        own = [name for name in SERVERS if name not in given]
        before, services = ((), ()) if servers_only else stages(routes)
        refuse_taken([*own, *before, *services], chosen, processes.running())
        starter = Starter(processes, progress)
        try:
            addresses = _start_servers(processes, starter, progress, chosen, given)
            connected = Wiring(addresses=addresses, ports=chosen, otlp=otlp, routes=routes and routes.resolve())
            connected.write(home)
            if not servers_only:
                System(processes, connected, starter).start()
        except BaseException:
            with undisturbed():
                starter.take_back()
            raise
        finally:
            if supervised:
                supervise(processes)
        return connected


def down(progress: Progress, *, folder: Path | None = None, purge: bool = False) -> int:
    """Stop everything, and with `purge` remove all data; say how many programs were running. Always safe to repeat."""
    home = folder or default_folder()
    if not home.exists():
        return 0
    with taken_over(home), undisturbed():
        processes = Processes(home)
        # First, lest it starts again what is stopped here.
        processes.stop(SUPERVISOR)
        running = processes.running()
        Starter(processes, progress).stop(running)
        strays = processes.sweep()
        if purge:
            shutil.rmtree(home, ignore_errors=True)
            progress(f"{home} removed")
    return len(running) + strays


def status(*, folder: Path | None = None) -> list[State]:
    """List what runs, and what has ended and will be started again."""
    home = folder or default_folder()
    processes = Processes(home)
    running = {one.name: one.pid for one in processes.running()}
    restarts = restarts_in(home) if SUPERVISOR in running else {}
    waiting = [name for name, one in restarts.items() if one.due is not None and name not in running]
    return [
        State(name=name, pid=running.get(name), log=processes.log(name), restarts=str(restarts.get(name, "")))
        for name in (*running, *waiting)
    ]


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
