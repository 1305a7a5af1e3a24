"""`python -m stack.variable_names NAME…`: refuse variables on make's command line that look like misspelt ones of ours.

make takes any variable, and what nothing reads has no effect. Names are free, since a routes file may name its own:
only those that are close to one of ours, and that the routes file does not use, are refused.
"""

import difflib
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from services.chassis.settings import KafkaSettings, describe_settings
from stack.local_system import default_folder
from stack.ports import Ports, port_variable
from stack.servers import ADDRESS_VARIABLES, REPLICAS_VARIABLE
from stack.system import named_variables
from stack.wiring import SERVICES, stored_wiring

_OPTIONS = ("ROUTES", "SINKS", "SECURE", "OTLP", "PURGE", "LOG", "ARGS", "BASE", "PYTHON")
# What the Makefile itself is made of: somebody may want another tool or folder.
_OF_THE_MAKEFILE = ("SHELL", "BIN", "READY", "LEVELS", "DECISIONS", "COVERED", "CANDIDATES", "FIT")
_OF_TESTS = ("TOCSIN_TEST_SERVERS", "TOCSIN_EXACTNESS_EXAMPLES", "TOCSIN_INSTALLED")
_PORTS = tuple(map(port_variable, asdict(Ports())))
_SERVERS = tuple(ADDRESS_VARIABLES.values())
# How the tools of the command line log in at Kafka.
_LOGIN = tuple(one.name for one in describe_settings(KafkaSettings, "TOCSIN_") if one.name.startswith("TOCSIN_KAFKA_"))
KNOWN_VARIABLES = (
    *(*_OPTIONS, *_OF_THE_MAKEFILE, *_OF_TESTS, *_PORTS, *_SERVERS, *_LOGIN),
    *(REPLICAS_VARIABLE, "TOCSIN_RUN", "TOCSIN_SERVER"),
)
# The settings of a program begin with its name; which of them there are, a start knows.
KNOWN_PREFIXES = tuple(f"{name.upper()}_" for name in (*SERVICES, "gateway"))
# OTLP and OLTP have a similarity of 0.75.
_SIMILAR = 0.75
_WRONG_USAGE = 2


def misspelt_variables(given: Collection[str], used: Collection[str]) -> list[str]:
    """Return a line for each variable that looks like another one; `used` are those of a routes file."""
    return [
        f'{name}: nothing reads a variable of this name; did you mean "{meant}"?'
        for name in given
        if name not in used
        for meant in _meant(name)
    ]


def _meant(name: str) -> Iterator[str]:
    """Yield the name that is meant, if it is another one."""
    prefix, underscore, rest = name.upper().partition("_")
    if name in KNOWN_VARIABLES or name.startswith(KNOWN_PREFIXES):
        return
    yield from difflib.get_close_matches(name.upper(), KNOWN_VARIABLES, n=1, cutoff=_SIMILAR) or (
        f"{similar}{rest}"
        for similar in difflib.get_close_matches(f"{prefix}{underscore}", KNOWN_PREFIXES, n=1, cutoff=_SIMILAR)
    )


def main(given: Collection[str]) -> int:
    """Print what is refused, and return the exit code."""
    routes = os.environ.get("ROUTES")
    file = stored_wiring(default_folder()).routes if routes is None else Path(routes)
    used = {} if file is None else named_variables(file, dict.fromkeys(given, ""))
    lines = misspelt_variables(given, used)
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return _WRONG_USAGE if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
