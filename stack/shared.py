"""Servers for test runs: on free ports, without care for the machine's own crash, ended when their starter is gone."""

import dataclasses
import json
import shutil
import uuid
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from stack.guard import guarded
from stack.ports import Ports
from stack.processes import Processes
from stack.servers import SERVERS, Addresses, Progress, local, program
from stack.starting import Starter

_FILE = "addresses.json"


class Servers:
    """The servers of one test run, each started when first asked for."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._processes = Processes(folder)
        self._ports = Ports.free()
        self._progress = progress
        self._starter = Starter(self._processes, progress)
        self._started: set[str] = set()
        self._guard = ExitStack()
        self._guard.enter_context(guarded(folder))

    def address(self, name: str) -> str:
        """Give a server's address; the first to ask waits until it answers."""
        self.start(name)
        return str(getattr(self.addresses, name))

    def start(self, *names: str) -> None:
        """Start these at once, as far as they do not run yet."""
        missing = [name for name in names if name not in self._started]
        how = (self._processes, self._ports, self._progress)
        self._starter.start([partial(program, name, *how, durable=False) for name in missing])
        self._started.update(missing)

    @property
    def addresses(self) -> Addresses:
        """Where the servers answer once they are started."""
        return local(self._ports)

    def kill(self, name: str) -> None:
        """End a server as a crash would; `start` brings it back with its data, on the same port."""
        self._started.discard(name)
        self._processes.kill(name)

    def stop(self) -> None:
        """Stop what was started, last first, and throw the data away."""
        self._starter.stop(self._processes.running())
        self._guard.close()
        shutil.rmtree(self._processes.folder, ignore_errors=True)

    def announce(self) -> None:
        """Start all, and write down where they answer, so that other test runs can use them."""
        self.start(*SERVERS)
        text = json.dumps(dataclasses.asdict(self.addresses), indent=2)
        (self._processes.folder / _FILE).write_text(text + "\n")


def announced(folder: Path) -> Addresses:
    """Read where the servers of another run answer."""
    return Addresses(**json.loads((folder / _FILE).read_text()))


def fresh_name() -> str:
    """Give a name that no other test has, fit for a database and for the front of topics."""
    return f"t{uuid.uuid4().hex[:10]}"
