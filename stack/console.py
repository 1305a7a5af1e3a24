"""What a person sees of up, down and status: `python -m stack` and the `tocsin` command print the same."""

import re
from contextlib import suppress

from rich.text import Text

from stack.endpoints import endpoints, server_endpoints, stored_rules
from stack.first_key import KeyRefusedError
from stack.folder_lock import FolderLockError
from stack.kafka_runtime import JarsError
from stack.local_system import StackState, start_stack, stop_stack
from stack.program import StartError
from stack.routes_check import RoutesFileError
from stack.service_settings import SettingsRefusedError
from stack.start_options import RequestedOptions
from stack.terminal import Terminal
from stack.topics import TopicsError
from stack.wiring import Wiring

# What can go wrong while the system starts or stops; each has a text for a person.
STACK_ERRORS = (
    StartError,
    JarsError,
    KeyRefusedError,
    FolderLockError,
    RoutesFileError,
    SettingsRefusedError,
    TopicsError,
    OSError,
    ValueError,
)

_NOT_ENCRYPTED = (
    "Not encrypted, and reached from this machine alone: PostgreSQL and Redis, which ask for a password; Envoy's"
    " administration; the local sinks; its connection to ingest, a socket that this user alone can open."
)
_NOT_AUTHENTICATED = (
    "Reached from this machine alone, by everybody on it: no service asks for a key, and nothing is encrypted."
    " `make up SECURE=1` has both."
)
_SOMETHING_MISSING, _NOTHING_RUNS = 1, 3


class _StepTerminal(Terminal):
    """Goes on in silence when nobody reads any more: what was begun is finished, or undone to its end."""

    def on_broken_pipe(self) -> None:
        """Write nothing from here on."""
        with suppress(SystemExit):
            super().on_broken_pipe()


terminal = _StepTerminal()
# "7 of 46 jars" is shown at a terminal, and would fill a file.
_COUNTING = re.compile(r"\d+ of \d+")


def print_step(text: str) -> None:
    """Print a step that was done."""
    if not _COUNTING.search(text):
        terminal.print(f"  {text}", style="dim", soft_wrap=True)


def bring_up(requested: RequestedOptions, *, servers_only: bool = False) -> None:
    """Start what does not run yet, and print the endpoints. Raise one of STACK_ERRORS."""
    with terminal.status("starting") as status:

        def progress(text: str) -> None:
            status.update(Text(text))
            print_step(text)

        wiring = start_stack(progress, requested=requested, servers_only=servers_only, supervised=True)
    terminal.print(exposure_of(wiring), soft_wrap=True)
    for endpoint in server_endpoints(wiring) if servers_only else [*endpoints(wiring), *stored_rules(wiring)]:
        # Never cut or wrapped: people copy these lines.
        example = (endpoint.example, "dim")
        line = Text.assemble((f"{endpoint.name:<13} ", "bold"), f"{endpoint.address}\n{'':<13} ", example)
        terminal.print(line, soft_wrap=True)


def words_of_stack_error(failure: Exception) -> str:
    """Return what a person needs to know of one of STACK_ERRORS: of a file its path and what is wrong with it."""
    if isinstance(failure, OSError) and failure.filename and failure.strerror:
        return f"{failure.filename}: {failure.strerror}"
    return str(failure)


def exposure_of(wiring: Wiring) -> str:
    """Return what a person has to know about who reaches the system."""
    return _NOT_AUTHENTICATED if wiring.secure is None else _NOT_ENCRYPTED


def bring_down(*, purge: bool = False) -> None:
    """Stop everything and print it. Raise one of STACK_ERRORS."""
    if not stop_stack(print_step, purge=purge):
        terminal.print("nothing was running")


def format_states(states: list[StackState]) -> list[str]:
    """Return a line for each program that runs, or that should run and does not."""
    lines = [f"{one.name:<12}{one.pid or '-':>8}  {one.log}  {_remark(one)}".rstrip() for one in states]
    return lines or ["nothing runs"]


def exit_code_of(states: list[StackState]) -> int:
    """Return 0 when all runs that should and serves, 1 when something does not, and 3 when nothing runs at all."""
    if all(one.is_missing for one in states):
        return _NOTHING_RUNS
    return _SOMETHING_MISSING if any(one.is_missing or one.problem for one in states) else 0


def _remark(state: StackState) -> str:
    if state.is_missing and not state.restarts:
        return "does not run; `make up` starts it"
    return "; ".join(text for text in (state.problem, state.degradation, state.restarts) if text)
