"""The small authority: what its certificates say, who can read which file, and how certificates change."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import ExtendedKeyUsage, SubjectAlternativeName
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from stack.certificate_requests import (
    CertificateError,
    CertificateRequest,
    certificate_files,
    client_request,
    server_request,
    service_request,
)
from stack.certificates import (
    ensure_certificates,
    forget_former_authority,
    init_authority,
    issue,
    list_certificates,
    renew_authority,
    rotate,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_authority(tmp_path / "certificates", now=NOW)
    return tmp_path / "certificates"


def trusted_by(folder: Path, reader: str, name: str, at: datetime = NOW) -> list[str]:
    """The names in the certificate of `name`, as a client verifies it that trusts what `reader` trusts."""
    store = Store(x509.load_pem_x509_certificates(certificate_files(folder, reader).ca.read_bytes()))
    certificate = x509.load_pem_x509_certificate(certificate_files(folder, name).certificate.read_bytes())
    verified = PolicyBuilder().store(store).time(at).build_client_verifier().verify(certificate, [])
    return [str(name.value) for name in verified.subjects or ()]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_services_certificate_has_its_identity_and_names(folder: Path) -> None:
    issued = issue(folder, service_request("manager", ["alert-manager", "10.0.0.7"]), now=NOW)
    assert issued.identity == "spiffe://tocsin/service/manager"
    assert issued.expires == NOW + YEAR
    names = ["spiffe://tocsin/service/manager", "localhost", "127.0.0.1", "::1", "alert-manager", "10.0.0.7"]
    assert trusted_by(folder, "manager", "manager") == names
    key = load_pem_private_key(issued.files.key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(issued.files.certificate.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()
    usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_only_the_gateway_has_the_name_that_services_check(folder: Path) -> None:
    for name in ("gateway", "ingest"):
        issue(folder, service_request(name), now=NOW)
    assert "gateway.tocsin.internal" in trusted_by(folder, "gateway", "gateway")
    assert "gateway.tocsin.internal" not in trusted_by(folder, "ingest", "ingest")


def test_a_clients_certificate_is_no_servers(folder: Path) -> None:
    issued = issue(folder, client_request("ada", role="editor", tenant="payments"), now=NOW)
    assert trusted_by(folder, "ada", "ada") == ["spiffe://tocsin/client/payments/editor/ada"]
    certificate = x509.load_pem_x509_certificate(issued.files.certificate.read_bytes())
    usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("name", ["manager", "m" * 63])
def test_a_client_is_nobody_else_to_servers_that_know_names(folder: Path, name: str) -> None:
    # Kafka and PostgreSQL let in whoever has the name of a service.
    files = issue(folder, client_request(name, role="viewer", tenant="payments"), now=NOW).files
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert certificate.subject.rfc4514_string() == f"CN=client {name}"[: len("CN=") + 64]


def test_a_server_of_another_kind_has_no_identity(folder: Path) -> None:
    issued = issue(folder, server_request("edge", ["*.example.org"], days=30), now=NOW)
    assert issued.identity == ""
    assert issued.expires == NOW + timedelta(days=30)
    certificate = x509.load_pem_x509_certificate(issued.files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.example.org"]


def test_keys_are_for_their_owner_alone_and_the_authoritys_lies_apart(folder: Path) -> None:
    issue(folder, service_request("ingest"), now=NOW)
    issue(folder, service_request("prometheus", group_readable=True), now=NOW)
    for name in ("ca", "ingest"):
        assert mode_of(folder / name) == 0o700
        assert mode_of(certificate_files(folder, name).key) == 0o600
    assert mode_of(folder / "prometheus") == 0o750
    assert mode_of(certificate_files(folder, "prometheus").key) == 0o640
    assert sorted(path.name for path in (folder / "ingest").iterdir()) == ["ca.pem", "certificate.pem", "key.pem"]


def test_there_is_one_authority(folder: Path) -> None:
    before = certificate_files(folder, "ca").key.read_bytes()
    with pytest.raises(CertificateError, match="there is an authority already"):
        init_authority(folder, now=NOW)
    assert certificate_files(folder, "ca").key.read_bytes() == before


def test_another_authoritys_certificate_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", now=NOW)
    issue(tmp_path / "other", service_request("ingest"), now=NOW)
    issue(folder, service_request("manager"), now=NOW)
    foreign = certificate_files(tmp_path / "other", "ingest")
    foreign.certificate.replace(certificate_files(folder, "manager").certificate)
    with pytest.raises(VerificationError):
        trusted_by(folder, "manager", "manager")


def test_rotation_keeps_what_a_certificate_says(folder: Path) -> None:
    issue(folder, service_request("gateway", ["api-gateway"], days=90), now=NOW)
    issue(folder, client_request("ada", role="viewer", tenant="default"), now=NOW)
    issue(folder, service_request("prometheus", group_readable=True), now=NOW)
    before = {one.name: one.files.key.read_bytes() for one in list_certificates(folder)}
    names = trusted_by(folder, "gateway", "gateway")
    later = NOW + timedelta(days=60)
    rotated = {one.name: one for one in rotate(folder, now=later)}
    assert {name: one.expires - later for name, one in rotated.items()} == {
        "ada": YEAR,
        "gateway": timedelta(days=90),
        "prometheus": YEAR,
    }
    assert sorted(trusted_by(folder, "gateway", "gateway", later)) == sorted(names)
    assert mode_of(certificate_files(folder, "prometheus").key) == 0o640
    assert all(one.files.key.read_bytes() != before[name] for name, one in rotated.items())


def test_no_step_of_a_new_authority_has_a_certificate_that_somebody_does_not_trust(folder: Path) -> None:
    for name in ("gateway", "manager"):
        issue(folder, service_request(name), now=NOW)

    def all_trust_each_other() -> bool:
        pairs = [("gateway", "manager"), ("manager", "gateway")]
        return all(trusted_by(folder, *pair) for pair in pairs)

    former = certificate_files(folder, "manager").ca.read_bytes()
    renew_authority(folder, now=NOW)
    assert certificate_files(folder, "manager").ca.read_bytes().endswith(former)
    assert all_trust_each_other()
    with pytest.raises(CertificateError, match="signed the certificates of gateway, manager"):
        forget_former_authority(folder)
    # A program that has not read its file yet trusts both.
    issue(folder, service_request("manager"), now=NOW)
    assert all_trust_each_other()
    rotate(folder, now=NOW)
    forget_former_authority(folder)
    assert all_trust_each_other()
    assert former not in certificate_files(folder, "manager").ca.read_bytes()


def test_ensuring_issues_what_is_missing_changed_or_about_to_expire(tmp_path: Path) -> None:
    requests = [service_request("ingest"), server_request("edge")]
    assert [one.name for one in ensure_certificates(tmp_path, requests, now=NOW)] == ["ingest", "edge"]
    assert ensure_certificates(tmp_path, requests, now=NOW + YEAR / 2) == []
    changed = [service_request("ingest"), server_request("edge", ["example.org"])]
    assert [one.name for one in ensure_certificates(tmp_path, changed, now=NOW + YEAR / 2)] == ["edge"]
    (renewed,) = ensure_certificates(tmp_path, changed, now=NOW + YEAR * 3 / 4)
    assert (renewed.name, renewed.expires) == ("ingest", NOW + YEAR * 7 / 4)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"name": "ca", "identity": "i"}, "the folder of the authority itself"),
        ({"name": "../etc", "identity": "i"}, 'name: expected 1 to 63 of .* found "../etc"'),
        ({"name": "edge", "dns": ("a b",)}, 'dns: expected a host name or an address, found "a b"'),
        ({"name": "edge", "dns": ("localhost",), "days": 0}, "days: found 0, expected 1 to 3650"),
        ({"name": "edge", "dns": ("localhost",), "days": 3651}, "days: found 3651"),
        ({"name": "edge"}, "expected an identity or a host name, found neither"),
    ],
)
def test_what_no_certificate_can_say_is_refused(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(CertificateError, match=problem):
        CertificateRequest(**arguments)  # type: ignore[arg-type]  # as the table has them


@pytest.mark.parametrize(("tenant", "role"), [("a/b", "viewer"), ("default", "x/admin"), ("", "viewer")])
def test_no_part_of_an_identity_has_a_slash(tenant: str, role: str) -> None:
    with pytest.raises(CertificateError, match="expected 1 to 63"):
        client_request("ada", role=role, tenant=tenant)


def test_what_is_not_there_or_no_pem_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"there is no authority; `tocsin ca init .*` creates one"):
        issue(tmp_path / "empty", service_request("ingest"), now=NOW)
    issue(folder, service_request("ingest"), now=NOW)
    certificate_files(folder, "ingest").certificate.write_text("nothing")
    with pytest.raises(CertificateError, match=r"certificate\.pem: found no certificate in PEM"):
        list_certificates(folder)
    certificate_files(folder, "ca").key.write_text("nothing")
    with pytest.raises(CertificateError, match=r"ca/key\.pem: found no key in PEM"):
        issue(folder, service_request("ingest"), now=NOW)
