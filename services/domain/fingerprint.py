"""Names for things that must be recognised when they come again."""

import hashlib

from services.domain.severity import Severity


def digest(*parts: str) -> str:
    """32 hexadecimal digits (half of SHA-256) of the parts; ("ab", "c") and ("a", "bc") differ."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:32]


def open_key(*, rule_id: str, resource: str) -> str:
    """What at most one open alert has: whatever its rule's severity is by now, the same group is in trouble."""
    return digest("open", rule_id, resource)


def fingerprint(*, rule_id: str, resource: str, severity: Severity) -> str:
    """What makes two alerts the same trouble: rule, resource and severity."""
    return digest("alert", rule_id, resource, severity.name)
