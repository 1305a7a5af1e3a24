"""Addresses as they stand in settings: host:port."""

_MAX_PORT = 65_535


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port", also "[::1]:port"; raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise ValueError(f"not host:port: {address}")
    return host.strip("[]") or "0.0.0.0", int(port)
