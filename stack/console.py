"""What a person sees of up, down and status: `python -m stack` and the `tocsin` command print the same."""

import re
from pathlib import Path

from rich.text import Text

from stack.claim import ClaimError
from stack.doors import doors, server_doors
from stack.jars import JarsError
from stack.processes import StartError
from stack.terminal import Terminal
from stack.topics import TopicsError
from stack.up import State, down, up

# What can go wrong while the system starts or stops; each has a text for a person.
FAILURES = (StartError, JarsError, ClaimError, TopicsError, OSError, ValueError)

console = Terminal()
# "7 of 46 jars" moves on at a terminal, and would fill a file.
_COUNTING = re.compile(r"\d+ of \d+")


def say(text: str) -> None:
    """A step that was done."""
    if not _COUNTING.search(text):
        console.print(f"  {text}", style="dim")


def bring_up(*, otlp: str = "", routes: Path | None = None, servers_only: bool = False) -> None:
    """Start what does not run yet, and print the doors. Raises one of FAILURES."""
    with console.status("starting") as shown:

        def progress(text: str) -> None:
            shown.update(Text(text))
            say(text)

        connected = up(progress, otlp=otlp, routes=routes, servers_only=servers_only, supervised=True)
    for door in server_doors(connected) if servers_only else doors(connected):
        # Never cut or wrapped: these lines are there to be copied.
        line = Text.assemble((f"{door.name:<13} ", "bold"), f"{door.address}\n{'':<13} ", (door.example, "dim"))
        console.print(line, soft_wrap=True)


def bring_down(*, purge: bool = False) -> None:
    """Stop everything, and say so. Raises one of FAILURES."""
    if not down(say, purge=purge):
        console.print("nothing was running")


def as_lines(states: list[State]) -> list[str]:
    """A line for each program that runs, or that will run again."""
    lines = [f"{one.name:<12}{one.pid or '-':>8}  {one.log}  {one.restarts}".rstrip() for one in states]
    return lines or ["nothing runs"]
