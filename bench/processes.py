"""Programs that a benchmark runs beside itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from stack.ports import Ports


@contextmanager
def child(module: str, settings: dict[str, str], *arguments: str) -> Iterator[psutil.Process]:
    """Run a program until the end of the block."""
    command, quiet = [sys.executable, "-m", module, *arguments], subprocess.DEVNULL
    with subprocess.Popen(command, env=os.environ | settings, stdout=quiet, stderr=quiet) as started:
        try:
            yield psutil.Process(started.pid)
        finally:
            started.terminate()


def gateway_settings(ports: Ports) -> dict[str, str]:
    """Return the settings of an Envoy for these ports, without an access log."""
    return {
        "GATEWAY_INGEST": f"127.0.0.1:{ports.ingest}",
        "GATEWAY_INGEST_ADMIN": f"127.0.0.1:{ports.ingest_admin}",
        "GATEWAY_EDGE_PORT": str(ports.edge),
        "GATEWAY_EVALUATOR_PORT": str(ports.edge_evaluator),
        "GATEWAY_MANAGER_PORT": str(ports.edge_manager),
        "GATEWAY_NOTIFIER_PORT": str(ports.edge_notifier),
        "GATEWAY_MESH_PORT": str(ports.mesh),
        "GATEWAY_ADMIN_PORT": str(ports.envoy_admin),
        "GATEWAY_ACCESS_LOG": os.devnull,
    }
