import pytest

from stack.system import System
from tests.e2e.world import World


@pytest.fixture
def world(tocsin: System) -> World:
    """Give the system that all tests share: use service names of your own in events."""
    return World(tocsin)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)
