"""The ports on which the system listens: the design's, or free ones for a test run."""

import dataclasses
import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

# Below the range from which Linux takes the ports of outgoing connections, so that a port found
# free is not given away between being found and being listened on.
_FREE_FROM, _FREE_TO = 20_000, 32_000
_PORTS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One port for each door; the defaults are the design's."""

    kafka: int = 9092
    kafka_controller: int = 9093
    postgres: int = 5432
    redis: int = 6379
    edge: int = 8080
    edge_evaluator: int = 8081
    edge_manager: int = 8082
    edge_notifier: int = 8083
    mesh: int = 10000
    envoy_admin: int = 9901
    ingest: int = 50051
    evaluator: int = 50052
    manager: int = 50053
    notifier: int = 50054
    ingest_admin: int = 9101
    evaluator_admin: int = 9102
    manager_admin: int = 9103
    notifier_admin: int = 9104
    sinks: int = 9300
    sinks_smtp: int = 9325

    @property
    def doors(self) -> tuple[int, int, int, int]:
        """Envoy's ports towards users: for everything, then for the evaluator, the manager and the notifier alone."""
        return (self.edge, self.edge_evaluator, self.edge_manager, self.edge_notifier)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The design's ports, except those that a TOCSIN_PORT_<NAME> moves; ValueError for one that is no port."""
        moved = {}
        for field in dataclasses.fields(cls):
            text = environ.get(f"TOCSIN_PORT_{field.name.upper()}", "")
            if text and not (text.isdecimal() and 0 < int(text) < _PORTS):
                raise ValueError(f"TOCSIN_PORT_{field.name.upper()} is not a port: {text}")
            if text:
                moved[field.name] = int(text)
        return cls(**moved)

    @classmethod
    def free(cls) -> Self:
        """Ports on which nobody listens at this moment, all different."""
        names = [field.name for field in dataclasses.fields(cls)]
        found: list[int] = []
        for candidate in random.sample(range(_FREE_FROM, _FREE_TO), k=_FREE_TO - _FREE_FROM):
            if len(found) == len(names):
                break
            if is_free(candidate):
                found.append(candidate)
        return cls(**dict(zip(names, found, strict=True)))


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        # Servers set this too: connections of a predecessor in TIME_WAIT do not make a port taken.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
