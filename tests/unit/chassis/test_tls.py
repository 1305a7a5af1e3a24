"""Which files a service takes, and which addresses it listens on."""

from pathlib import Path
from typing import Any

import pytest

from services.chassis.settings import ProcessSettings, SettingsError, TlsSettings, is_loopback, load_settings
from services.chassis.tls import TlsFiles
from tests.fakes.certificates import Certificates

TLS = TlsSettings(tls_certificate="c", tls_key="k", tls_ca="a")


def process(**settings: Any) -> ProcessSettings:
    return ProcessSettings(**{"listen": "127.0.0.1:50051", "admin_listen": "127.0.0.1:9101"} | settings)


def test_a_file_that_is_missing_or_wrong_ends_the_start_with_its_name(tmp_path: Path) -> None:
    settings = Certificates(tmp_path / "certificates").settings("ingest")
    key, ca = Path(settings.tls_key), Path(settings.tls_ca)
    good = key.read_text()
    key.write_text(ca.read_text())
    with pytest.raises(SettingsError, match=r"ingest/key\.pem: found no key without a password in PEM"):
        TlsFiles(settings)
    key.write_text(Path(Certificates(tmp_path / "other").settings("ingest").tls_key).read_text())
    with pytest.raises(SettingsError, match=r"expected the key of the certificate in .* found another") as refused:
        TlsFiles(settings)
    assert "PRIVATE" not in str(refused.value)
    key.write_text(good)
    ca.write_text("")
    with pytest.raises(SettingsError, match=r"ingest/ca\.pem: found no certificate in PEM"):
        TlsFiles(settings)
    ca.unlink()
    with pytest.raises(SettingsError, match=r"ingest/ca\.pem: cannot be read: No such file"):
        TlsFiles(settings)


def test_what_becomes_wrong_later_changes_nothing_and_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificates = Certificates(tmp_path)
    settings = certificates.settings("ingest")
    files = TlsFiles(settings)
    before = files.current()
    key = Path(settings.tls_key)
    good = key.read_text()
    key.write_text("nothing")
    assert files.current() is before
    assert files.current() is before
    key.unlink()
    assert files.current() is before
    assert files.current() is before
    assert capsys.readouterr().out.count("certificate_refused") == 2
    key.write_text(good)
    assert files.current() == before
    certificates.renew("ingest")
    assert files.current().certificate == Path(settings.tls_certificate).read_bytes() != before.certificate


def test_the_files_go_together() -> None:
    assert TLS.is_on
    assert not TlsSettings().is_on
    with pytest.raises(ValueError, match="go together, tls_key and tls_ca is not set"):
        TlsSettings(tls_certificate="c")
    environ = {"X_LISTEN": "127.0.0.1:1", "X_ADMIN_LISTEN": "127.0.0.1:2", "X_TLS_CERTIFICATE": "c", "X_TLS_KEY": "k"}
    with pytest.raises(
        SettingsError, match="X_TLS_CERTIFICATE, X_TLS_KEY and X_TLS_CA go together, X_TLS_CA is not set"
    ):
        load_settings(ProcessSettings, "X_", environ)
    assert load_settings(ProcessSettings, "X_", environ | {"X_TLS_CA": "a"}).tls == TLS


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "localhost:1"])
def test_addresses_of_this_machine_alone_need_no_authentication(address: str) -> None:
    assert is_loopback(address)
    process(listen=address, admin_listen=address)


@pytest.mark.parametrize("address", ["0.0.0.0:1", ":1", "[::]:1", "10.0.0.7:1", "tocsin.example.org:1"])
@pytest.mark.parametrize("name", ["listen", "admin_listen"])
def test_any_other_address_needs_authentication_and_certificates(name: str, address: str) -> None:
    assert not is_loopback(address)
    for missing in ({}, {"authentication": "required"}, {"tls": TLS}):
        with pytest.raises(
            ValueError,
            match=f'^{name} must be .* found "{address}".* authentication=required, tls_cert'.replace("[", r"\["),
        ):
            process(**missing, **{name: address})
    process(authentication="required", tls=TLS, **{name: address})
    # On the way from plaintext to certificates.
    process(tls=TLS, plaintext_listen="0.0.0.0:2", **{name: address})


@pytest.mark.parametrize("name", ["plaintext_listen", "plaintext_admin_listen"])
def test_a_plaintext_address_beside_a_plaintext_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="are for where tls_certificate is set"):
        process(**{name: "127.0.0.1:2"})
