"""Asking a door on this machine whether somebody answers."""

from http.client import HTTPConnection

_OK = 200


def http(port: int, path: str) -> bytes:
    """Give the body of a 200 answer; raises OSError when nobody listens or the answer is another."""
    # Not urllib, which would ask a configured proxy for this machine's own ports.
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != _OK:
        raise ConnectionError(
            f"port {port} answered {path} with {answer.status}: {body[:300].decode(errors='replace')}"
        )
    return body
