"""An issuer of tokens (JWT, signed with ES256) and its public keys (JWKS)."""

import base64
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

ISSUER = "https://issuer.example"


class Issuer:
    """Signs tokens with a key of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_keys(self) -> str:
        numbers = self._key.public_key().public_numbers()
        point = {axis: _base64(getattr(numbers, axis).to_bytes(32, "big")) for axis in ("x", "y")}
        return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", **point}]})

    def token(self, **claims: Any) -> str:
        """Return a token of the issuer that is valid for a minute, with these claims; None leaves one out."""
        default = {"iss": ISSUER, "exp": int(time.time()) + 60, "aud": "tocsin", "sub": "ann", "tocsin_role": "viewer"}
        kept = {name: value for name, value in (default | claims).items() if value is not None}
        signed = f"{_json({'alg': 'ES256', 'kid': '1', 'typ': 'JWT'})}.{_json(kept)}"
        first, second = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(first.to_bytes(32, 'big') + second.to_bytes(32, 'big'))}"


def _json(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
