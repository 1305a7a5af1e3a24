"""Imports of services' modules."""

import gc
import importlib
import sys

import pytest

from services.chassis import imports
from services.chassis.imports import uncollected_imports


def test_a_module_that_nothing_uses_is_not_found_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_UNUSED", "this")
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with uncollected_imports():
        assert not gc.isenabled()
        with pytest.raises(ImportError):
            importlib.import_module("this")
    assert gc.isenabled()
    assert "this" not in sys.modules


def test_a_module_that_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_UNUSED", "json")
    with uncollected_imports():
        pass
    assert sys.modules["json"] is not None
