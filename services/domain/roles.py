"""What a caller may do."""

from enum import StrEnum

_READERS = ("viewer", "responder", "editor", "admin")


class Role(StrEnum):
    """Each of viewer, responder, editor and admin may do what those before it may; ingest and service stand apart."""

    INGEST = "ingest"
    VIEWER = "viewer"
    RESPONDER = "responder"
    EDITOR = "editor"
    ADMIN = "admin"
    # A service of the system itself. No key, token or client certificate has this role.
    SERVICE = "service"

    def permits(self, needed: "Role") -> bool:
        """Whether a caller of this role may call what needs the other one."""
        if self is Role.ADMIN and needed is Role.INGEST:
            return True
        if self in _READERS and needed in _READERS:
            return _READERS.index(self) >= _READERS.index(needed)
        return self is needed
