"""The guard of a service: lets each call in or refuses it, and has it recorded."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import grpc

from services.access.authentication import authenticate, authorize
from services.access.keys import KeyRecord
from services.access.methods import GATEWAY_METHODS, MethodAccess, own_methods
from services.chassis.callers import ANONYMOUS_ADMIN, Caller, CallOutcome, Guard, IncomingCall
from services.chassis.clock import Clock
from services.chassis.failures import Failure

_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One entry of the audit log. It never holds what was sent."""

    at: datetime
    call: IncomingCall
    # None where the call was refused before anybody knew whose it was.
    caller: Caller | None
    outcome: CallOutcome


async def record_nothing(_: CallRecord) -> None:
    """Keep no audit log."""


def note_nothing(_: str, __: datetime) -> None:
    """Keep no uses of keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleGuard:
    """Knows what each rpc needs and which keys are valid."""

    methods: Mapping[str, MethodAccess]
    # All valid keys by id, as last read; None before the first time.
    keys: Callable[[], Mapping[str, KeyRecord] | None]
    clock: Clock
    # Notes that the key with this id was used at this time.
    note_use: Callable[[str, datetime], None] = note_nothing
    # Keeps a record of a command, or of a refused call; raises nothing.
    audit: Callable[[CallRecord], Awaitable[None]] = record_nothing
    # Without authentication everybody is the anonymous administrator; commands are recorded as theirs.
    is_open: bool = False

    def admit(self, call: IncomingCall) -> Caller:
        """Return who calls; raise Unauthenticated, PermissionDenied or KeysUnavailable."""
        if self.is_open:
            return ANONYMOUS_ADMIN
        now = self.clock.now()
        caller = authenticate(call, self.keys(), now)
        if caller.kind == "key":
            self.note_use(caller.id, now)
        authorize(caller, call.method, self.methods.get(call.method))
        return caller

    async def record(self, call: IncomingCall, caller: Caller | None, outcome: CallOutcome) -> None:
        """Have the call recorded if it is a command, or was refused."""
        needed = self.methods.get(call.method)
        if caller is None and outcome.code is grpc.StatusCode.PERMISSION_DENIED:
            # It was known who calls.
            with suppress(Failure):
                caller = authenticate(call, self.keys(), self.clock.now())
        if outcome.code in _REFUSALS or (needed is not None and needed.is_command):
            await self.audit(CallRecord(at=self.clock.now(), call=call, caller=caller, outcome=outcome))


def chosen_guard(
    authentication: str,
    keys: Callable[[], Mapping[str, KeyRecord] | None],
    clock: Clock,
    audit: Callable[[CallRecord], Awaitable[None]] = record_nothing,
    note_use: Callable[[str, datetime], None] = note_nothing,
) -> Guard:
    """Return the guard that the setting AUTHENTICATION asks for."""
    return RoleGuard(
        methods=own_methods() | GATEWAY_METHODS,
        keys=keys,
        clock=clock,
        note_use=note_use,
        audit=audit,
        is_open=authentication == "off",
    )
