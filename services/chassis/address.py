"""Addresses as they stand in settings: host:port."""


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port", also "[::1]:port"; raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal():
        raise ValueError(f"not host:port: {address}")
    return host.strip("[]") or "0.0.0.0", int(port)
