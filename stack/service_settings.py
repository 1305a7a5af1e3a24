"""The settings of services that a start uses: those of the shell, and those that an earlier start was told.

Only documented ones are kept. Anything else that begins with a service's name may be somebody's secret.
"""

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from stack.program import StartError
from stack.start_options import merge_variables
from stack.wiring import SERVICES, python_environ

_GATEWAY = "gateway"
# In the name of a setting: the path of a file that holds the secret.
_FILE_SUFFIX = "_FILE"
# All names of one program begin alike.
_SIMILAR = 0.85


class SettingsRefusedError(Exception):
    """Settings that a service would refuse; the text names all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsReport:
    """What a program says about its settings, given the variables with which it would start."""

    defaults: Mapping[str, str | None]
    secrets: Collection[str] = ()
    # Former names that are set, with the present ones.
    renamed: Mapping[str, str] = field(default_factory=dict)
    problems: Collection[str] = ()

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Return the report in this record. Raise TypeError when it is none."""
        return cls(**record)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The settings that a start uses, their defaults, and variables of the shell that have no effect."""

    used: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    # With the reason of each.
    ignored: Mapping[str, str] = field(default_factory=dict)


def choose_settings(
    given: Mapping[str, str], stored: Mapping[str, str], report: SettingsReport, fixed: Collection[str]
) -> ServiceSettings:
    """Return the settings of one program; `fixed` are those that the start itself sets."""
    own = set(report.defaults) - with_files(fixed) - set(report.secrets)
    former = {report.renamed[name]: value for name, value in given.items() if name in report.renamed}
    present = {name: value for name, value in (former | dict(given)).items() if name in own}
    kept = {name: value for name, value in stored.items() if name in own}
    return ServiceSettings(
        used=merge_variables(present, kept),
        defaults={name: report.defaults[name] or "empty" for name in own},
        ignored={
            name: _reason_to_ignore(name, report, own, fixed)
            for name, value in sorted(given.items())
            if value and name not in own | set(report.renamed)
        },
    )


def with_files(names: Collection[str]) -> set[str]:
    """Return the names, and those of the files that may hold their values."""
    return {*names, *(name + _FILE_SUFFIX for name in names)}


def _reason_to_ignore(name: str, report: SettingsReport, own: Collection[str], fixed: Collection[str]) -> str:
    if name in report.defaults and name in with_files(fixed):
        return "this start sets it itself"
    if name in report.secrets:
        return f"a secret would have to be stored; set {name}{_FILE_SUFFIX} to the path of a file that holds it"
    return _no_such_setting(name, own)


def _no_such_setting(name: str, settings: Collection[str]) -> str:
    similar = difflib.get_close_matches(name, settings, n=1, cutoff=_SIMILAR)
    return "there is no such setting" + (f'; did you mean "{similar[0]}"?' if similar else "")


def settings_of_start(
    environ: Mapping[str, str],
    stored: Mapping[str, str],
    fixed: Mapping[str, Mapping[str, str]],
    option_problems: Collection[str] = (),
) -> ServiceSettings:
    """Return the settings of all programs; `fixed` are, by program, those that the start itself sets.

    A program is asked only when there is a setting for it. Raise SettingsRefusedError, also for what is wrong with the
    start's own options, or StartError when a program cannot be asked.
    """
    parts: list[ServiceSettings] = []
    problems = list(option_problems)
    for program in (*SERVICES, _GATEWAY):
        prefix = f"{program.upper()}_"
        given = {name: value for name, value in environ.items() if name.startswith(prefix)}
        kept = {name: value for name, value in stored.items() if name.startswith(prefix)}
        if given or kept:
            merged = {
                name: value
                for name, value in merge_variables(given, kept).items()
                if name not in with_files(fixed[program])
            }
            report = _ask(program, {**merged, **fixed[program]})
            problems += report.problems
            parts.append(choose_settings(given, kept, report, fixed[program]))
    if problems:
        raise SettingsRefusedError(
            "\n  ".join(["nothing was started or stopped, since settings are wrong:", *problems])
        )
    return ServiceSettings(
        used={name: value for part in parts for name, value in part.used.items()},
        defaults={name: value for part in parts for name, value in part.defaults.items()},
        ignored={name: reason for part in parts for name, reason in part.ignored.items()},
    )


def _ask(program: str, variables: Mapping[str, str]) -> SettingsReport:
    """Return the program's report, from a process of its own: services are met on the wire only."""
    if program == _GATEWAY:
        # Imports Envoy's wheel and protobuf, which those who only want servers do without.
        from services.chassis.settings_report import report_settings  # noqa: PLC0415
        from stack.envoy import PREFIX, EnvoySettings  # noqa: PLC0415

        return SettingsReport.read(report_settings(EnvoySettings, PREFIX, variables))
    command = [sys.executable, "-m", f"services.{program}", "--report-settings"]
    foreign = {name: value for name, value in os.environ.items() if not name.startswith(f"{program.upper()}_")}
    environ = {**foreign, **variables, **python_environ()}
    asked = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    try:
        return SettingsReport.read(json.loads(asked.stdout))
    except (ValueError, TypeError):
        raise StartError(f"{program} does not report its settings:\n{asked.stderr or asked.stdout}") from None
