import pytest

from services.evaluator.core.window import reading_history
from services.evaluator.worker import snapshots
from tests.unit.evaluator.match_loop import Loop


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def snapshots_always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_history, "_MAX_AGE_NS", -1)
    monkeypatch.setattr(snapshots, "_PAUSE_SECONDS", 0.0)
