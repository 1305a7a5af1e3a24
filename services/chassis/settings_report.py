"""What a service says about its settings: help for a person, and for a program also what is wrong with their values.

`python -m services.<service> --report-settings` prints it as one line of JSON, since who starts services imports none.
"""

from collections.abc import Mapping
from typing import Any

from services.chassis.settings import SettingsError, describe_settings, load_settings, renamed_settings

OPTION = "--report-settings"


def report_settings(kind: type[Any], prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return defaults by name, the names of secrets, former names in `environ` with the present ones, and problems."""
    docs = describe_settings(kind, prefix)
    problems: list[str] = []
    try:
        load_settings(kind, prefix, environ)
    except SettingsError as error:
        problems = error.problems
    return {
        "defaults": {doc.name: doc.default for doc in docs},
        "secrets": [doc.name for doc in docs if doc.type == "secret"],
        "renamed": {one.former: one.name for one in renamed_settings(kind, prefix, environ)},
        "problems": problems,
    }


def format_settings(kind: type[Any], prefix: str) -> str:
    """Return the settings for a person, with type, default and meaning."""
    docs = describe_settings(kind, prefix)
    width = max(len(doc.name) for doc in docs)
    lines = []
    for doc in docs:
        default = "required" if doc.required else f"default: {doc.default or 'empty'}"
        lines.append(f"  {doc.name:<{width}}  {doc.type}, {default}")
        lines.append(f"  {'':<{width}}  {doc.help}")
    return "\n".join(lines) + "\n"
