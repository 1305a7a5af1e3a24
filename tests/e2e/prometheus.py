"""A real Prometheus beside a system, as people run one: with this project's configuration and rules."""

import http.client
import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stack.ports import Ports
from stack.wiring import SERVICES
from tests.e2e.world import ROOT, wait_until

DEPLOY = ROOT / "deploy"
# As often as Prometheus can: each query needs two values at least.
_EVERY = "500ms"


@dataclass(frozen=True)
class Prometheus:
    """What a test asks a running Prometheus."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer; an answer with an error fails the test."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series that a query gives now."""
        return list(self.ask("query", query=expression)["result"])

    def is_scraping(self) -> bool:
        """Return whether it has read every target twice; before it listens, that it does not."""
        try:
            targets = self.ask("targets")["activeTargets"]
            scraped = self.query("min(count_over_time(up[1m]))")
        except (OSError, ValueError):
            # It says in words that it is not ready.
            return False
        is_up = bool(targets) and all(target["health"] == "up" for target in targets)
        return is_up and bool(scraped) and float(scraped[0]["value"][1]) >= 3


@contextmanager
def running_prometheus(program: str, ports: Ports, port: int, folder: Path) -> Iterator[Prometheus]:
    """Run it on the targets of a system; yield once it has read all of them."""
    config = yaml.safe_load((DEPLOY / "prometheus.local.yml").read_text())
    config["global"] = {"scrape_interval": _EVERY, "scrape_timeout": _EVERY, "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus_rules.yml")]
    for job in config["scrape_configs"]:
        name = job["job_name"]
        target = getattr(ports, f"{name}_admin") if name in SERVICES else ports.mesh
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        try:
            prometheus = Prometheus(port)
            wait_until(prometheus.is_scraping, what="Prometheus has read every target")
            yield prometheus
        finally:
            process.terminate()
            process.wait(10)
