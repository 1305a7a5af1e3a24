"""API keys: `tocsin_<id>_<secret>`.

The secret is 256 bits of chance, so that its SHA-256 alone is as hard to invert as a slow hash of a password would be;
the text of a key is shown once and stored nowhere.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.callers import DEFAULT_TENANT
from services.domain.roles import Role

KEY_PREFIX = "tocsin_"
_ID_CHANCE, _ID_LENGTH = 8, 12
KEY_CHANCE = _ID_CHANCE + 32
_KEY = re.compile(r"tocsin_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as it is stored: what its holder may do, and a hash to know its holder by."""

    id: str
    # The SHA-256 of the secret.
    secret_hash: bytes = field(repr=False)
    name: str
    role: Role
    tenant: str = DEFAULT_TENANT
    # The only services whose events it may send; empty: all.
    services: frozenset[str] = frozenset()
    # Until when it is valid; None: until it is revoked.
    expire_time: datetime | None = None

    def is_held_with(self, secret_hash: bytes) -> bool:
        """Whether this is the secret's hash, in a time that tells nothing."""
        return hmac.compare_digest(self.secret_hash, secret_hash)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expire_time is not None and self.expire_time <= now


def read_key(text: str) -> tuple[str, bytes] | None:
    """Return a key's id and the hash of its secret; None for a text that has not the form of a key."""
    found = _KEY.fullmatch(text)
    return found and (found[1], hash_secret(found[2]))


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def make_key(chance: bytes) -> tuple[str, str, bytes]:
    """Return the text, the id and the secret's hash of a new key, from KEY_CHANCE bytes of chance."""
    key_id = base64.b32encode(chance[:_ID_CHANCE]).decode().lower()[:_ID_LENGTH]
    secret = base64.urlsafe_b64encode(chance[_ID_CHANCE:KEY_CHANCE]).decode().rstrip("=")
    return f"{KEY_PREFIX}{key_id}_{secret}", key_id, hash_secret(secret)
