import gzip
from pathlib import Path

import pytest

from tests.unit.cli.send.log_texts import OLD


@pytest.fixture(params=[bytes, gzip.compress])
def old_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / "shop.log"
    file.write_bytes(request.param(OLD.encode()))
    return file
