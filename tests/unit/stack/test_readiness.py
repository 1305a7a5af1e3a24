"""How long a start waits for a program, and what it says when the program is never ready."""

import socket
import struct
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from stack.processes import Processes
from stack.program import StartError
from stack.readiness import GREETED, ServiceCondition, server_condition, service_condition, wait_until_ready
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


class _Health(BaseHTTPRequestHandler):
    status, body = 200, "{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "body", "condition"),
    [
        (200, '{"reasons":{}}', ServiceCondition()),
        (200, '{"reasons":{"redis":"gone"}}', ServiceCondition(degradation="degraded: redis: gone")),
        (
            503,
            '{"reasons":{"kafka":"refused","service":"stopping"}}',
            ServiceCondition(problem="does not serve: kafka: refused; service: stopping"),
        ),
        (503, '{"reasons":{}}', ServiceCondition(problem="does not serve")),
        (503, "no JSON", ServiceCondition(problem="does not answer")),
        (404, "{}", ServiceCondition(problem="does not answer")),
    ],
)
def test_a_service_says_why_it_does_not_serve_or_not_fully(status: int, body: str, condition: ServiceCondition) -> None:
    handler = type("Health", (_Health,), {"status": status, "body": body})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        assert service_condition(server.server_port) == condition
        answering.join()


def test_a_service_that_nobody_is_does_not_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert service_condition(unused.getsockname()[1]).problem == "does not answer"


@pytest.mark.parametrize("name", GREETED)
def test_a_server_that_takes_connections_and_says_nothing_does_not_answer(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        assert server_condition(name, frozen.getsockname()[1], 0.05).problem == "does not answer"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert server_condition(name, unused.getsockname()[1]).problem == "does not answer"


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_server_that_closes_the_connection_answers(*, is_reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close() -> None:
            connection = server.accept()[0]
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        closing = threading.Thread(target=close)
        closing.start()
        assert server_condition("redis", server.getsockname()[1]) == ServiceCondition()
        closing.join()


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
