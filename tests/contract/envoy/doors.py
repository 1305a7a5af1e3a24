"""Talking to Envoy's ports as users do: HTTP as curl sends it, and gRPC."""

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def violations(self) -> list[tuple[str, str]]:
        """The fields that google.rpc.BadRequest names, each with what is wrong with it."""
        bad = [each for each in self.json["details"] if each["@type"].endswith("google.rpc.BadRequest")]
        return [(each["field"], each["description"]) for detail in bad for each in detail["fieldViolations"]]

    @property
    def reason(self) -> str:
        return next(each["reason"] for each in self.json["details"] if each["@type"].endswith("google.rpc.ErrorInfo"))


@dataclass(frozen=True)
class Door:
    """One port of Envoy."""

    port: int

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("POST", path, body, headers)

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, seconds: float = 20
    ) -> Answer:
        """Text and bytes are sent as they are, anything else as JSON."""
        content = body if isinstance(body, str | bytes | None) else json.dumps(body)
        if isinstance(content, str):
            content = content.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, content, {**JSON, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def channel(self) -> grpc.Channel:
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=options)


def wait_until(
    is_so: Callable[[], bool],
    *,
    seconds: float = 10,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> float:
    """Ask again and again; gives how many seconds it took."""
    start = time.monotonic()
    while True:
        try:
            if is_so():
                return time.monotonic() - start
        except OSError:
            pass
        waited = time.monotonic() - start
        assert waited < seconds, f"not within {seconds} s"
        assert process is None or process.poll() is None, log.read_text() if log else "the process ended"
        time.sleep(0.02)
