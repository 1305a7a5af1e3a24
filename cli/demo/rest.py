"""The REST door, as curl uses it."""

import json
from http.client import HTTPConnection
from typing import Any


class RestError(Exception):
    """An answer other than 200."""


class Rest:
    """Requests to one host and port, each on a connection of its own."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str) -> Any:
        """The JSON at a path. Raises RestError, OSError when nobody answers."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a JSON body. Raises RestError, OSError when nobody answers."""
        return self._ask("POST", path, json.dumps(body))

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        connection = HTTPConnection(self._address, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:  # noqa: PLR2004 - the only status that these paths promise
            raise RestError(f"{method} {path}: {answer.status} {text}")
        return json.loads(text)
