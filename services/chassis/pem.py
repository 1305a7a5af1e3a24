"""Certificates and keys in PEM. The library that reads them is slow to import, and a service without any needs none."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def read_certificates(data: bytes) -> list["x509.Certificate"]:
    """Return the certificates, at least one; raise ValueError."""
    from cryptography import x509  # noqa: PLC0415

    return x509.load_pem_x509_certificates(data)


def read_private_key(data: bytes) -> "PrivateKeyTypes":
    """Return the key, which no password protects; raise ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        return load_pem_private_key(data, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


def is_key_of(key: "PrivateKeyTypes", certificate: "x509.Certificate") -> bool:
    """Return whether the certificate is for this key; raise ValueError for a kind of key that is not known."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415

    try:
        return key.public_key() == certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
