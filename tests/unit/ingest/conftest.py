"""Ingest with a topic in memory."""

from collections.abc import Callable

import pytest

from tests.fakes.ingest import Bench, a_bench


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    return a_bench


@pytest.fixture
def bench() -> Bench:
    return a_bench()
