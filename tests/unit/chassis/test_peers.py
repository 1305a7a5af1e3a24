"""Whose identity a certificate proves."""

import pytest

from services.chassis.peers import certificate_identity, peer_identity, service_identity


@pytest.mark.parametrize(
    ("uris", "identity"),
    [
        ([b"spiffe://tocsin/service/gateway"], "spiffe://tocsin/service/gateway"),
        ([], None),
        # Of another trust domain, or without one.
        ([b"spiffe://tocsin.example/service/gateway"], None),
        ([b"https://tocsin/service/gateway"], None),
        # Which of two calls, nothing says.
        ([b"spiffe://tocsin/service/gateway", b"spiffe://tocsin/service/manager"], None),
        ([b"spiffe://tocsin/service/\xff"], "spiffe://tocsin/service/\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_peers_identity_is_its_only_uri(uris: list[bytes], identity: str | None) -> None:
    assert peer_identity({"peer_uri": uris, "peer_dns": [b"spiffe://tocsin/service/manager"]}) == identity
    names = tuple(("URI", uri.decode("utf-8", "replace")) for uri in uris)
    assert certificate_identity({"subjectAltName": (*names, ("DNS", "localhost"))}) == identity


def test_without_a_certificate_there_is_no_identity() -> None:
    assert peer_identity({}) is None
    assert peer_identity(None) is None
    assert certificate_identity(None) is None
    assert certificate_identity({}) is None
    assert service_identity("manager") == "spiffe://tocsin/service/manager"
