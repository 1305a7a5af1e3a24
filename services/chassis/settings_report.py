"""What a service says about its settings to whoever starts it: names, defaults, and what is wrong with their values.

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
