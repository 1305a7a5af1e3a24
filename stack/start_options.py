"""What later starts keep: where traces and notifications go, ports, servers of one's own, settings of services.

The run folder stores it (stack/wiring.py). What a start is not told stays as it was, what it is told as an empty value
is removed, and it prints both: so no setting is replaced in silence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_REST_OF_URL = re.compile(r"(//[^/@]*?):[^@]*@|\?.*")
_NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What the system runs with."""

    otlp: str = ""
    # None: the example's routes, which lead to the local sinks.
    routes: Path | None = None
    sinks: bool = False
    # With certificates and keys, made on the spot.
    secure: bool = False

    @property
    def runs_sinks(self) -> bool:
        """Return whether the local sinks run: without a routes file, and beside one when that is asked for."""
        return self.routes is None or self.sinks

    @property
    def variables(self) -> dict[str, str]:
        """Return the options that are in use, as `make up` takes them."""
        options = {"OTLP": self.otlp, "ROUTES": str(self.routes or ""), "SINKS": "1" if self.sinks else ""}
        options["SECURE"] = "1" if self.secure else ""
        return {name: value for name, value in options.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOptions:
    """The options of one start: None keeps the stored option, an empty string removes it."""

    otlp: str | None = None
    routes: str | None = None
    sinks: bool | None = None
    secure: bool | None = None


def merge_options(requested: RequestedOptions, stored: StartOptions) -> StartOptions:
    """Return what the system runs with from now on."""
    options = stored
    if requested.otlp is not None:
        options = replace(options, otlp=requested.otlp)
    if requested.routes is not None:
        options = replace(options, routes=Path(requested.routes).resolve() if requested.routes else None)
    if requested.sinks is not None:
        options = replace(options, sinks=requested.sinks)
    if requested.secure is not None:
        options = replace(options, secure=requested.secure)
    return options


def merge_variables(given: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hold from now on: an empty one is removed."""
    return {name: value for name, value in {**stored, **given}.items() if value}


def explain_variables(before: Mapping[str, str], now: Mapping[str, str], defaults: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that differs from the last start, and one for all that are as before."""
    names = [*now, *(name for name in before if name not in now)]
    changed = [name for name in names if before.get(name) != now.get(name)]
    lines = [_explain_change(name, before.get(name), now.get(name), defaults.get(name) or _NONE) for name in changed]
    kept = [name for name in names if name not in changed]
    if kept:
        words = " ".join(f"{name}={_without_secrets(now[name])}" for name in kept)
        lines.append(f"as before: {words} (an empty value, such as {kept[0]}=, removes one)")
    return lines


def _explain_change(name: str, before: str | None, now: str | None, default: str) -> str:
    shown = [default if value is None else _without_secrets(value) for value in (before, now)]
    if shown[0] == shown[1]:
        # Only a secret differs, or the default itself was given.
        return f"{name}: {'changed' if before and now else shown[1]}"
    return f"{name}: {shown[0]} → {shown[1]}"


def _without_secrets(value: str) -> str:
    """Hide a password in a server's address, and its parameters, which may hold one."""
    return _REST_OF_URL.sub(lambda found: f"{found[1]}:…@" if found[1] else "?…", value) if "://" in value else value
