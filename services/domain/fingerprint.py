"""Keys by which alerts are recognised and deduplicated."""

import hashlib
from uuid import UUID

from services.domain.severity import Severity


def digest(*parts: str) -> str:
    """Return 32 hexadecimal digits (half of SHA-256) of the parts; ("ab", "c") and ("a", "bc") differ."""
    joined = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.sha256(joined.encode()).hexdigest()[:32]


def stable_id(namespace: UUID, *parts: str) -> str:
    """Return the UUID, version 5, of the digest of some parts: the same each time."""
    # As uuid.uuid5 makes it, for a quarter of the time: a transition needs seven of them.
    name = namespace.bytes + digest(*parts).encode()
    digits = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def open_key(*, rule_id: str, resource: str) -> str:
    """Return the key that at most one open alert has: rule and group, whatever the severity."""
    return digest("open", rule_id, resource)


def fingerprint(*, rule_id: str, resource: str, severity: Severity) -> str:
    """Return the key of rule, resource and severity, by which alerts are the same."""
    return digest("alert", rule_id, resource, severity.name)
