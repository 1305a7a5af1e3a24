"""Certificates and keys in PEM, those among them that a service cannot use."""

import ssl
from base64 import encodebytes
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from services.chassis.pem import is_key_of, read_certificates, read_private_key
from tests.fakes.certificates import Certificates

# The identifier of keys on elliptic curves, and one that stands for nothing.
_CURVES, _UNKNOWN = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027f")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


def test_a_certificate_is_for_its_own_key(certificates: Certificates) -> None:
    one, other = certificates.service("ingest"), certificates.service("manager")
    (certificate,) = read_certificates(one.certificate.read_bytes())
    assert is_key_of(read_private_key(one.key.read_bytes()), certificate)
    assert not is_key_of(read_private_key(other.key.read_bytes()), certificate)


def test_a_kind_of_key_that_is_not_known_is_refused(certificates: Certificates) -> None:
    files = certificates.service("ingest")
    der = ssl.PEM_cert_to_DER_cert(files.certificate.read_text()).replace(_CURVES, _UNKNOWN)
    (certificate,) = read_certificates(ssl.DER_cert_to_PEM_cert(der).encode())
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ValueError, match="Unknown key type"):
        is_key_of(key, certificate)


def test_a_key_that_cannot_be_used_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).replace(_CURVES, _UNKNOWN)
    unknown = b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(der) + b"-----END PRIVATE KEY-----\n"
    for data, reason in ((b"", "PEM"), (secret, "encrypted"), (unknown, "Unknown key type")):
        with pytest.raises(ValueError, match=reason):
            read_private_key(data)
