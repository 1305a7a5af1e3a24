"""Become a user without rights, keeping the right to reach files, and run a command: `unprivileged.py COMMAND…`.

PostgreSQL refuses to run as root. The usual remedies create a user and open every folder above the data to everybody;
this one changes nothing on the machine. Standard library only: it runs as a script.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 28, 47, 2
# A change of the user keeps capabilities, and access(2) uses them.
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def user() -> tuple[int, int]:
    """Return the user and the group that own what the command writes."""
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def become() -> None:
    """Give up root for good; where the kernel allows it, folders that are closed to others stay readable."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = user()
    libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # The right to read and search is enough, but containers often have only the other one. Without either, the
    # command itself reports what it cannot read.
    if not _keep(libc, _CAP_DAC_READ_SEARCH):
        _keep(libc, _CAP_DAC_OVERRIDE)


def _keep(libc: ctypes.CDLL, capability: int) -> bool:
    """Drop every capability but this one, pass it on to what is executed, and return whether the kernel allows it."""
    bit = 1 << capability
    sets = (_Sets * 2)(_Sets(bit, bit, bit), _Sets(0, 0, 0))
    if libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets) != 0:
        return False
    return bool(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0)


if __name__ == "__main__":
    become()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command is the whole purpose, without a shell
