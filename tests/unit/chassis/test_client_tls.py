import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.chassis.client_tls import ClientTls
from stack.certificate_requests import CertificateFiles, server_request
from stack.certificates import init_authority, issue

REQUEST = server_request("client")


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    init_authority(tmp_path, now=datetime.now(UTC))
    return issue(tmp_path, REQUEST, now=datetime.now(UTC)).files


def test_the_server_s_name_and_certificate_are_always_checked(files: CertificateFiles) -> None:
    for ca in (str(files.ca), ""):
        context = ClientTls(ca=ca).context()
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_last_context_that_fitted_stays_until_all_files_fit_again(files: CertificateFiles, tmp_path: Path) -> None:
    tls = ClientTls(ca=str(files.ca), certificate=str(files.certificate), key=str(files.key))
    first, digest = tls.context(), tls.digest()
    assert tls.context() is first
    former = files.key.read_text()
    issue(tmp_path, REQUEST, now=datetime.now(UTC))
    issued = files.key.read_text()
    files.key.write_text(former)
    with capture_logs() as logs:
        assert [tls.context() is first, tls.context() is first] == [True, True]
    assert [log["event"] for log in logs] == ["certificate_refused"]
    files.key.unlink()
    assert tls.digest() is None
    assert tls.context() is first
    files.key.write_text(issued)
    second = tls.context()
    assert second is not first
    assert tls.context() is second
    assert tls.digest() not in {None, digest}


def test_without_a_certificate_that_fits_there_is_no_context(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ClientTls(ca=str(tmp_path / "none")).context()
