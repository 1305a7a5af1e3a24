import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.backoff import Backoff
from tests.unit.cli.send.log_texts import OLD


@pytest.fixture(params=[bytes, gzip.compress])
def old_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / "shop.log"
    file.write_bytes(request.param(OLD.encode()))
    return file


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.send.sender._BACKOFF", Backoff(first_delay=timedelta(0)))
