"""Make a key where the manager's database can be reached: the first one of a system, or one in place of a lost one."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from stack.wiring import python_environ


class KeyRefusedError(Exception):
    """No key was made; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstKey:
    """A new key; nothing else has its text."""

    id: str
    name: str
    role: str
    tenant: str
    text: str


def create_first_key(
    variables: Mapping[str, str], *, name: str, role: str = "admin", tenant: str = "default"
) -> FirstKey:
    """Make a key by the manager's program; `variables` are its settings MANAGER_DATABASE_… Raises KeyRefusedError."""
    command = [sys.executable, "-m", "services.manager.bootstrap"]
    command += [f"--name={name}", f"--role={role}", f"--tenant={tenant}"]
    made = subprocess.run(
        command, env={**os.environ, **variables, **python_environ()}, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise KeyRefusedError(made.stderr.strip() or "the manager's program ended without a word")
    return FirstKey(**json.loads(made.stdout))
