"""Who is at the other end of a connection: the identity in its certificate, a SPIFFE id."""

from collections.abc import Iterable, Mapping

TRUST_DOMAIN = "spiffe://tocsin"
# In the gateway's certificate. Services check this name whatever address they connect to, since a certificate of
# another program may well be valid for the same address.
GATEWAY_NAME = "gateway.tocsin.internal"

# In front of a socket's path, as gRPC writes it.
SOCKET_SCHEME = "unix:"

_SERVICE = f"{TRUST_DOMAIN}/service/"
_URI_KEY = "peer_uri"


def service_identity(name: str) -> str:
    """Return the identity of a service of ours, as "gateway" or "manager"."""
    return f"{_SERVICE}{name}"


def peer_identity(auth_context: Mapping[str, Iterable[bytes]] | None, address: str = "") -> str | None:
    """Return the identity of a call's peer, from the server's context; None without a certificate or an identity.

    An `address` that is a Unix socket's is Envoy's: a service listens on none but GATEWAY_SOCKET.

    gRPC has verified the certificate by the authorities that the server trusts. A certificate with several identities
    says nothing about which one calls, so it has none.
    """
    if address.startswith(SOCKET_SCHEME):
        return service_identity("gateway")
    found = [uri.decode("utf-8", "replace") for uri in (auth_context or {}).get(_URI_KEY, ())]
    return _only_identity(found)


def certificate_identity(certificate: Mapping[str, object] | None) -> str | None:
    """Return the identity in a verified certificate, as `ssl.SSLSocket.getpeercert` has it; None when it has none."""
    names = (certificate or {}).get("subjectAltName", ())
    found = [str(value) for kind, value in names if kind == "URI"] if isinstance(names, tuple) else []
    return _only_identity(found)


def _only_identity(uris: list[str]) -> str | None:
    return uris[0] if len(uris) == 1 and uris[0].startswith(f"{TRUST_DOMAIN}/") else None
