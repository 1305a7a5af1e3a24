"""Envoy's connections with certificates: transport sockets for listeners and clusters, which read their files again.

Envoy takes the certificates by SDS from files beside its configuration: so it watches the folders of certificates, and
new connections use what is in them, without a restart. Files in one folder are replaced by renaming, which it notices.
"""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis.peers import TRUST_DOMAIN, service_identity

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_MESH_LISTENER = "mesh"
_SERVICE_IDENTITIES = f"{TRUST_DOMAIN}/service/"
_EDGE, _EDGE_CLIENTS, _MESH, _MESH_PEERS = "edge", "edge_clients", "mesh", "mesh_peers"
# Envoy tells HTTP/1.1 from HTTP/2 by these words of the handshake.
_HTTP2, _HTTP1 = "h2", "http/1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePaths:
    """Certificate and key, and the authorities by which the other side is known (none: it shows no certificate)."""

    certificate: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyCertificates:
    """What Envoy shows users, and what it shows the services; None: plaintext."""

    edge: CertificatePaths | None = None
    mesh: CertificatePaths | None = None
    # Where a listener has a certificate, it takes plaintext as well.
    accepts_plaintext: bool = False


def secret_files(certificates: EnvoyCertificates) -> dict[str, str]:
    """Return the files by which Envoy finds its certificates, by name; they stand beside its configuration."""
    secrets: dict[str, dict[str, Any]] = {}
    for name, peers, paths in (
        (_EDGE, _EDGE_CLIENTS, certificates.edge),
        (_MESH, _MESH_PEERS, certificates.mesh),
    ):
        if paths is None:
            continue
        chain = {"certificate_chain": _file(paths.certificate), "private_key": _file(paths.key)}
        secrets[name] = {"tls_certificate": chain | _watched(paths.certificate)}
        if paths.ca is not None:
            secrets[peers] = {"validation_context": {"trusted_ca": _file(paths.ca)} | _watched(paths.ca)}
    return {
        _file_name(name): json.dumps({"resources": [{"@type": f"{_TLS}.Secret", "name": name, **secret}]}, indent=1)
        for name, secret in secrets.items()
    }


def add_certificates(
    config: dict[str, Any], certificates: EnvoyCertificates, folder: Path, services: Iterable[str]
) -> None:
    """Let listeners and the services' clusters use certificates; `folder` has the files of `secret_files`."""
    resources = config["static_resources"]
    for listener in resources["listeners"]:
        paths = certificates.mesh if listener["name"] == _MESH_LISTENER else certificates.edge
        if paths is not None:
            socket = _mesh_socket(folder) if listener["name"] == _MESH_LISTENER else _edge_socket(paths, folder)
            _secure(listener, socket, accepts_plaintext=certificates.accepts_plaintext)
    if certificates.mesh is not None:
        clusters = {cluster["name"]: cluster for cluster in resources["clusters"]}
        for service in services:
            clusters[service]["transport_socket"] = _upstream_socket(service, folder, _HTTP2)
            clusters[f"{service}_admin"]["transport_socket"] = _upstream_socket(service, folder, _HTTP1)
        clusters["refusals"]["transport_socket"] = _upstream_socket("manager", folder, _HTTP2)


def _secure(listener: dict[str, Any], socket: Mapping[str, Any], *, accepts_plaintext: bool) -> None:
    (chain,) = listener["filter_chains"]
    if accepts_plaintext:
        plaintext = copy.deepcopy(chain)
        plaintext["filter_chain_match"] = {"transport_protocol": "raw_buffer"}
        chain["filter_chain_match"] = {"transport_protocol": "tls"}
        listener["filter_chains"].append(plaintext)
        inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
        listener["listener_filters"] = [
            {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": inspector}}
        ]
    chain["transport_socket"] = socket


def _edge_socket(paths: CertificatePaths, folder: Path) -> dict[str, Any]:
    context: dict[str, Any] = _own(_EDGE, folder, [_HTTP2, _HTTP1])
    if paths.ca is not None:
        # Callers may show one; a key or a token serves as well.
        context["validation_context_sds_secret_config"] = _secret(_EDGE_CLIENTS, folder)
    # Said, not left out: the default is about to become the other one.
    return _socket("DownstreamTlsContext", {"common_tls_context": context, "require_client_certificate": False})


def _mesh_socket(folder: Path) -> dict[str, Any]:
    context = _own(_MESH, folder, [_HTTP2, _HTTP1]) | _peers({"prefix": _SERVICE_IDENTITIES}, folder)
    return _socket("DownstreamTlsContext", {"common_tls_context": context, "require_client_certificate": True})


def _upstream_socket(service: str, folder: Path, protocol: str) -> dict[str, Any]:
    context = _own(_MESH, folder, [protocol]) | _peers({"exact": service_identity(service)}, folder)
    return _socket("UpstreamTlsContext", {"common_tls_context": context})


def _own(name: str, folder: Path, protocols: list[str]) -> dict[str, Any]:
    versions = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
    return {
        "alpn_protocols": protocols,
        # Said, since Envoy itself would connect with TLS 1.2 at most.
        "tls_params": versions,
        "tls_certificate_sds_secret_configs": [_secret(name, folder)],
    }


def _peers(identity: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Return whom a connection in the mesh is made with: a certificate of the authorities, with this identity."""
    names = [{"san_type": "URI", "matcher": identity}]
    return {
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": _secret(_MESH_PEERS, folder),
        }
    }


def _socket(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": f"{_TLS}.{kind}", **config}}


def _secret(name: str, folder: Path) -> dict[str, Any]:
    source = {"path_config_source": {"path": str(folder / _file_name(name))}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _file(path: Path) -> dict[str, str]:
    return {"filename": str(path.absolute())}


def _watched(path: Path) -> dict[str, Any]:
    return {"watched_directory": {"path": str(path.absolute().parent)}}


def _file_name(secret: str) -> str:
    return f"secret_{secret}.json"
