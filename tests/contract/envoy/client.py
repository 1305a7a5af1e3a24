"""Calls to Envoy's ports as users make them: HTTP as curl sends it, and gRPC."""

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Response:
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
        """The fields that google.rpc.BadRequest names, each with its description."""
        bad = [each for each in self.json["details"] if each["@type"].endswith("google.rpc.BadRequest")]
        return [(each["field"], each["description"]) for detail in bad for each in detail["fieldViolations"]]

    @property
    def reason(self) -> str:
        details = self.json["details"]
        return str(next(each["reason"] for each in details if each["@type"].endswith("google.rpc.ErrorInfo")))


@dataclass(frozen=True)
class EnvoyClient:
    """One port of Envoy."""

    port: int

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Response:
        return self.send("POST", path, body, headers)

    def send(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, seconds: float = 20
    ) -> Response:
        """Send strings and bytes as they are, anything else as JSON."""
        content = body if isinstance(body, str | bytes | None) else json.dumps(body)
        if isinstance(content, str):
            content = content.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, content, {**JSON, **(headers or {})})
            response = connection.getresponse()
            headers_read = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, headers_read, response.read())
        finally:
            connection.close()

    def channel(self) -> grpc.Channel:
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=options)


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """Return the rich status of a failed call."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None
    return status


def wait_until(
    condition: Callable[[], bool],
    *,
    seconds: float = 10,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> float:
    """Poll until the condition holds, and return how many seconds that took."""
    start = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except OSError:
            pass
        waited = time.monotonic() - start
        assert waited < seconds, f"not within {seconds} s"
        assert process is None or process.poll() is None, log.read_text() if log else "the process ended"
        time.sleep(0.02)
