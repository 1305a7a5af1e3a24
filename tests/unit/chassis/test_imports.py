"""Imports of services' modules."""

import gc
import importlib
import subprocess
import sys

import pytest

from services.chassis import imports
from services.chassis.imports import uncollected_imports
from stack.wiring import python_environ


def test_a_module_that_nothing_uses_is_not_found_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_UNUSED", ("json", "this"))
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with uncollected_imports():
        assert not gc.isenabled()
        with pytest.raises(ImportError):
            importlib.import_module("this")
    assert gc.isenabled()
    assert "this" not in sys.modules


def test_a_module_that_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_UNUSED", ("json",))
    with uncollected_imports():
        pass
    assert sys.modules["json"] is not None


@pytest.mark.parametrize(
    ("service", "unused"),
    [
        ("ingest", ["aiohttp", "cryptography.x509", "psutil", "rich"]),
        ("evaluator", ["aiohttp", "cryptography.x509", "psutil", "rich"]),
        ("manager", ["aiohttp", "cryptography.x509", "psutil", "rich", "numpy", "pyarrow"]),
        ("notifier", ["cryptography.x509", "psutil", "rich", "numpy", "pyarrow"]),
    ],
)
def test_a_service_does_not_wait_for_libraries_that_it_may_not_need(service: str, unused: list[str]) -> None:
    program = f"import services.{service}.__main__, sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=python_environ()
    )
    assert set(unused).isdisjoint(ran.stdout.split())
