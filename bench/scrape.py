"""Reading one number from a service's metrics."""

from http.client import HTTPConnection


def counter(port: int, name: str) -> float:
    """The sum of a counter over its labels, 0.0 while it is not there."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))
