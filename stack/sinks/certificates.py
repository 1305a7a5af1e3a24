"""A certificate for this machine, by an authority of its own that lives in one folder."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where the authority's and the server's certificates lie."""

    authority: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that shows the certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        return context


def certificate(folder: Path) -> Certificate:
    """The folder's certificate, made at the first call, so that who trusts it still does after a restart."""
    found = Certificate(authority=folder / "authority.pem", server=folder / "server.pem")
    if not (found.authority.exists() and found.server.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(found.server))
        authority.cert_pem.write_to_path(str(found.authority))
    return found
