"""No report, help text, error or repr of settings shows a secret, wherever it comes from."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from services.chassis.settings import SettingsError, describe_settings, load_settings
from services.chassis.settings_report import format_settings, report_settings

SERVICES = ("ingest", "evaluator", "manager", "notifier")
# Valid where a URL is wanted and where anything is.
HIDDEN = "hunter2"
URLS = {
    "DATABASE_URL": f"postgresql://u:{HIDDEN}@h/d",
    "MIGRATION_DATABASE_URL": f"postgresql://u:{HIDDEN}@h/d",
    "REDIS_URL": f"redis://u:{HIDDEN}@h",
}
OTHERS = {
    "BROKERS": "h:1",
    "CACHE_DIR": ".",
    "ROUTES": "routes.yaml",
    "KAFKA_SASL_USER": "u",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("is_wrong", [False, True])
def test_settings_never_show_a_secret(service: str, tmp_path: Path, *, is_file: bool, is_wrong: bool) -> None:
    settings = importlib.import_module(f"services.{service}.settings")
    kind, prefix = settings.Settings, settings.PREFIX
    environ = {prefix + name: value for name, value in OTHERS.items()}
    secrets = [doc.name for doc in describe_settings(kind, prefix) if doc.type == "secret"]
    assert secrets
    for name in secrets:
        value = URLS.get(name.removeprefix(prefix), HIDDEN).replace("://", ":/" if is_wrong else "://")
        if is_file:
            (tmp_path / name).write_text(value)
        environ |= {f"{name}_FILE": str(tmp_path / name)} if is_file else {name: value}
    if is_wrong:
        environ[f"{prefix}KAFKA_SASL_USER"] = ""
    shown: list[Any] = [report_settings(kind, prefix, environ), format_settings(kind, prefix)]
    try:
        shown.append(repr(load_settings(kind, prefix, environ)))
    except SettingsError as error:
        assert is_wrong
        shown.append(str(error))
    assert HIDDEN not in json.dumps(shown)
