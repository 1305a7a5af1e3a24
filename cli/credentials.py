"""With which credentials the command calls Tocsin: an API key, and the certificate authority of the server.

A key never stands among the arguments, which other users of the machine can read: it comes from a file or a variable.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from stack.local_system import default_folder
from stack.wiring import stored_wiring

_KEY, _KEY_FILE, _CA_FILE = "TOCSIN_KEY", "TOCSIN_KEY_FILE", "TOCSIN_CA_FILE"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MAX_KEY = 8192

KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", envvar=_KEY_FILE, help="File with the API key or token of the caller; or TOCSIN_KEY."),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option("--ca-file", envvar=_CA_FILE, help="File with the server's certificate authority: call it by TLS."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What goes along with each call."""

    # Empty: none.
    key: str = field(default="", repr=False)
    # The certificates of the authorities, PEM; None: no TLS.
    authorities: bytes | None = None


_chosen: ContextVar[Credentials | None] = ContextVar("credentials", default=None)


def choose_credentials(key_file: Path | None, ca_file: Path | None) -> None:
    """Use these in all calls of the command; without a key file the variable TOCSIN_KEY has the key."""
    _chosen.set(read_credentials(key_file, ca_file, os.environ))


def current_credentials() -> Credentials:
    """Return what was chosen; where nothing was, as in the completion of a shell, what the variables say."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    key_file, ca_file = (Path(path) if (path := os.environ.get(name)) else None for name in (_KEY_FILE, _CA_FILE))
    return read_credentials(key_file, ca_file, os.environ)


def read_credentials(key_file: Path | None, ca_file: Path | None, environ: Mapping[str, str]) -> Credentials:
    """Return the credentials in these files. Raises BadParameter, which never shows what a key file holds."""
    key = environ.get(_KEY, "").strip()
    if key_file is not None:
        key = _read(key_file, "--key-file").decode("utf-8", "replace").strip()
    if key_file is not None and not key:
        raise typer.BadParameter("expected a file with a key, found an empty one", param_hint="--key-file")
    if len(key) > _MAX_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise typer.BadParameter("expected a key: one word of letters, digits and - . _", param_hint="--key-file")
    return Credentials(key=key, authorities=None if ca_file is None else _read_authorities(ca_file))


def _read_authorities(path: Path) -> bytes:
    content = _read(path, "--ca-file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise typer.BadParameter(f"{path}: expected certificates in PEM, found none", param_hint="--ca-file") from None
    return content


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from None


def credentials_for(server: str) -> Credentials:
    """Return the command's credentials; none given: those of the system that `tocsin up --secure` runs here."""
    chosen = current_credentials()
    here = stored_wiring(default_folder())
    if here.secure is None or server != f"127.0.0.1:{here.ports.edge}":
        return chosen
    key, authorities = chosen.key, chosen.authorities
    # Another user of the machine cannot read them, and is refused by the server.
    with suppress(OSError):
        authorities = authorities or here.secure.ca.read_bytes()
        key = key or here.secure.admin_key.read_text().strip()
    return Credentials(key=key, authorities=authorities)


def channel_with_credentials(server: str, options: Any = None) -> grpc.Channel:
    """Open a channel to a server with the credentials of the command."""
    credentials = credentials_for(server)
    if credentials.authorities is None:
        channel = grpc.insecure_channel(server, options)
    else:
        channel = grpc.secure_channel(server, grpc.ssl_channel_credentials(credentials.authorities), options)
    return grpc.intercept_channel(channel, _WithKey(credentials.key)) if credentials.key else channel


def sends_key_in_plaintext(server: str) -> bool:
    """Return whether others on the way to this server could read the key."""
    credentials = credentials_for(server)
    is_open = credentials.authorities is None and server.rpartition(":")[0] not in _LOOPBACK
    return bool(credentials.key) and is_open


class _CallDetails(grpc.ClientCallDetails):
    """The details of a call, with other metadata."""

    def __init__(self, details: Any, metadata: Any) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _WithKey(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the key to each call."""

    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_key(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_key(details), request)

    def _with_key(self, details: Any) -> _CallDetails:
        return _CallDetails(details, [*(details.metadata or ()), self._header])
