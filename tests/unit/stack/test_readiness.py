"""How long a start waits for a program, and what it says when the program is never ready."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from stack.processes import Processes
from stack.program import StartError
from stack.readiness import wait_until_ready
from stack.starter import Starter

LONG = timedelta(seconds=60)


def refuse() -> None:
    raise ConnectionError("refused")


def test_a_check_is_repeated_until_it_returns() -> None:
    results = [ConnectionError("refused"), TimeoutError("slow"), None]

    def check() -> None:
        if result := results.pop(0):
            raise result

    wait_until_ready("redis", check, LONG, threading.Event())
    assert results == []


def test_what_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="the redis of TOCSIN_REDIS does not answer: refused"):
        Starter(Processes(tmp_path), print).wait_until_ready("the redis of TOCSIN_REDIS", refuse, timedelta())


def test_a_program_that_has_ended_is_not_waited_for() -> None:
    with pytest.raises(StartError, match="redis ended before it answered"):
        wait_until_ready("redis", refuse, LONG, threading.Event(), is_alive=lambda: False)


def test_a_cancelled_start_ends_at_once() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StartError, match="the start of redis was cancelled"):
        wait_until_ready("redis", refuse, LONG, cancelled)
