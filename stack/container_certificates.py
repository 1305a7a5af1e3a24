"""Certificates for the containers of compose.yaml: what a start of them makes, in a volume that they share."""

from pathlib import Path

from stack.certificate_requests import CertificateRequest, server_request, service_request
from stack.certificates import ensure_certificates
from stack.secure_files import present_time

# Each service, and the name of its container.
_CONTAINERS = {
    "gateway": "api-gateway",
    "ingest": "log-ingest",
    "evaluator": "alert-rule-engine",
    "manager": "alert-manager",
    "notifier": "notification-service",
}


def container_requests() -> list[CertificateRequest]:
    """Return what the containers have certificates for; Prometheus runs as another user."""
    services = [service_request(service, [container]) for service, container in _CONTAINERS.items()]
    return [*services, service_request("prometheus", group_readable=True), server_request("edge", ["api-gateway"])]


def ensure(folder: str) -> None:
    """Issue what is missing or about to expire."""
    ensure_certificates(Path(folder), container_requests(), now=present_time())
