import pytest

from tests.unit.evaluator.match_loop import Loop


@pytest.fixture
def loop() -> Loop:
    return Loop()
