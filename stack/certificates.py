"""A small certificate authority: the certificates by which the programs of one system know each other.

Layout of a folder: ca/ca.pem and ca/key.pem (the authority; only who issues reads its key), and for each name NAME/
certificate.pem, NAME/key.pem and NAME/ca.pem, the authorities to trust. A folder NAME is complete, so that a program is
given that one alone. Files are replaced whole, and each program reads its own again when they change.

Identities are SPIFFE ids: spiffe://tocsin/service/NAME, and spiffe://tocsin/client/TENANT/ROLE/NAME for people and
programs.

A new authority takes three steps, so that no program ever meets a certificate that it does not trust: everyone trusts
both (`renew_authority`), each certificate is issued anew (`rotate`), everyone trusts the new one alone
(`forget_former_authority`). Between two steps all programs read their files.
"""

import os
import secrets
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stack.certificate_requests import (
    AUTHORITY_NAME,
    CertificateError,
    CertificateFiles,
    CertificateRequest,
    IssuedCertificate,
    certificate_files,
)

_AUTHORITY_VALIDITY = timedelta(days=3650)
# So that a clock that is a little behind does not refuse a new certificate.
_BACKDATED = timedelta(minutes=5)
# A certificate is issued anew when less than this part of its validity is left.
_RENEWED_PART = 3
# Of X.509.
_MAX_COMMON_NAME = 64

_PUBLIC, _PRIVATE, _GROUP = 0o644, 0o600, 0o640


def init_authority(folder: Path, *, now: datetime) -> Path:
    """Create the authority, and return its certificate. Raise CertificateError where there is one."""
    key = _authority_key(folder)
    if key.exists():
        raise CertificateError(f"{key.parent}: there is an authority already; `tocsin ca rotate --ca` replaces it")
    return _create_authority(folder, now, former=b"")


def issue(folder: Path, request: CertificateRequest, *, now: datetime) -> IssuedCertificate:
    """Write key and certificate of this name, over those that it had. Raise CertificateError without an authority."""
    authority, signer, trusted = _read_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(_common_name(request), key, now, timedelta(days=request.days))
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([client, server] if request.dns else [client]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(request)), critical=False)
    )
    certificate = builder.sign(signer, hashes.SHA256())
    files = certificate_files(folder, request.name)
    files.key.parent.mkdir(mode=0o750 if request.group_readable else 0o700, parents=True, exist_ok=True)
    # Authorities first: who has the new certificate trusts its signer. Between the next two a reader finds a key that
    # does not fit, keeps what it has and reads again.
    _replace(files.ca, trusted, _PUBLIC)
    _replace(files.key, _private_pem(key), _GROUP if request.group_readable else _PRIVATE)
    _replace(files.certificate, certificate.public_bytes(Encoding.PEM), _PUBLIC)
    return _described(request.name, certificate, files)


def rotate(folder: Path, *, now: datetime) -> list[IssuedCertificate]:
    """Issue each certificate of the folder anew, with the same names and validity, under the present authority."""
    _read_authority(folder)
    return [issue(folder, _request_of(files, one), now=now) for files, one in _issued(folder)]


def ensure_certificates(folder: Path, requests: list[CertificateRequest], *, now: datetime) -> list[IssuedCertificate]:
    """Create the authority where there is none, issue what is missing, asked for otherwise or expires; return that."""
    if not _authority_key(folder).exists():
        init_authority(folder, now=now)
    present = {files.key.parent.name: (files, one) for files, one in _issued(folder)}
    return [
        issue(folder, request, now=now)
        for request in requests
        if request.name not in present or _is_outdated(request, *present[request.name], now)
    ]


def renew_authority(folder: Path, *, now: datetime) -> Path:
    """Create a new authority, and let everyone trust the former one beside it; certificates stay as they are."""
    authority, _, _ = _read_authority(folder)
    path = _create_authority(folder, now, former=authority.public_bytes(Encoding.PEM))
    _publish_trusted(folder)
    return path


def forget_former_authority(folder: Path) -> None:
    """Let everyone trust the present authority alone. Raise CertificateError while a former one's are in use."""
    authority, _, _ = _read_authority(folder)
    former = [files.key.parent.name for files, one in _issued(folder) if not _is_signed_by(one, authority)]
    if former:
        raise CertificateError(
            f"a former authority has signed the certificates of {', '.join(former)}: `tocsin ca rotate` first"
        )
    _replace(certificate_files(folder, AUTHORITY_NAME).ca, authority.public_bytes(Encoding.PEM), _PUBLIC)
    _publish_trusted(folder)


def list_certificates(folder: Path) -> list[IssuedCertificate]:
    """Return the certificates of the folder, by name; raise CertificateError where there is no authority."""
    if not _authority_key(folder).exists():
        raise CertificateError(f"there is no authority; `tocsin ca init {folder}` creates one")
    return [_described(files.key.parent.name, one, files) for files, one in _issued(folder)]


def _authority_key(folder: Path) -> Path:
    return certificate_files(folder, AUTHORITY_NAME).key


def _create_authority(folder: Path, now: datetime, former: bytes) -> Path:
    files = certificate_files(folder, AUTHORITY_NAME)
    files.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own for each, so that a verifier tries the right one of two.
    name = f"Tocsin CA {secrets.token_hex(4)}"
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, key, now, _AUTHORITY_VALIDITY)
        .issuer_name(_subject(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _replace(files.key, _private_pem(key), _PRIVATE)
    _replace(files.ca, certificate.public_bytes(Encoding.PEM) + former, _PUBLIC)
    return files.ca


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, bytes]:
    """Return certificate and key of the authority, and all that is trusted, the present one first."""
    files = certificate_files(folder, AUTHORITY_NAME)
    try:
        trusted = files.ca.read_bytes()
        key = load_pem_private_key(files.key.read_bytes(), None)
    except FileNotFoundError:
        raise CertificateError(f"there is no authority; `tocsin ca init {folder}` creates one") from None
    except OSError as error:
        raise CertificateError(f"{error.filename}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"{files.key}: found no key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{files.key}: expected a key of an elliptic curve")
    return _load(files.ca), key, trusted


def _issued(folder: Path) -> list[tuple[CertificateFiles, x509.Certificate]]:
    names = sorted(path.parent.name for path in folder.glob("*/certificate.pem"))
    return [(certificate_files(folder, name), _load(certificate_files(folder, name).certificate)) for name in names]


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"{path}: found no certificate in PEM") from None


def _publish_trusted(folder: Path) -> None:
    _, _, trusted = _read_authority(folder)
    for files, _ in _issued(folder):
        _replace(files.ca, trusted, _PUBLIC)


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_outdated(
    request: CertificateRequest, files: CertificateFiles, certificate: x509.Certificate, now: datetime
) -> bool:
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if certificate.not_valid_after_utc - now < validity / _RENEWED_PART:
        return True
    present = _request_of(files, certificate)
    return (present.identity, set(present.dns)) != (request.identity, set(request.dns))


def _request_of(files: CertificateFiles, certificate: x509.Certificate) -> CertificateRequest:
    """Return the request of which this certificate is the answer."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = tuple(str(address) for address in names.get_values_for_type(x509.IPAddress))
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return CertificateRequest(
        name=files.key.parent.name,
        identity=next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), ""),
        dns=(*names.get_values_for_type(x509.DNSName), *addresses),
        days=max(1, validity.days),
        group_readable=bool(files.key.stat().st_mode & 0o040),
    )


def _described(name: str, certificate: x509.Certificate, files: CertificateFiles) -> IssuedCertificate:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identity = next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")
    return IssuedCertificate(name=name, identity=identity, files=files, expires=certificate.not_valid_after_utc)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, validity: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + validity)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _common_name(request: CertificateRequest) -> str:
    """Return the name by which Kafka and PostgreSQL know who connects: no user of Tocsin has that of a service."""
    return request.name if request.dns else f"client {request.name}"[:_MAX_COMMON_NAME]


def _alternative_names(request: CertificateRequest) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(request.identity)] if request.identity else []
    for name in request.dns:
        try:
            names.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return names


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _replace(path: Path, contents: bytes, mode: int) -> None:
    """Write the file in one step; it never exists with other rights."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123 - the descriptor's
        # Whatever mask the caller has.
        os.fchmod(file.fileno(), mode)
        file.write(contents)
    draft.replace(path)
