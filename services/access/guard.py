"""The guard of a service where authentication is required: lets each call in or refuses it, and has it recorded."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import grpc

from services.access.authentication import authenticate, authorize
from services.access.keys import KeyRecord
from services.access.methods import MethodAccess, own_methods
from services.chassis.callers import Caller, CallOutcome, Guard, IncomingCall, OpenGuard
from services.chassis.clock import Clock

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleGuard:
    """Knows what each rpc needs and which keys are valid."""

    methods: Mapping[str, MethodAccess]
    # All valid keys by id, as last read; None before the first time.
    keys: Callable[[], Mapping[str, KeyRecord] | None]
    clock: Clock
    # Keeps a record of a command, or of a refused call; raises nothing.
    audit: Callable[[CallRecord], Awaitable[None]] = record_nothing

    def admit(self, call: IncomingCall) -> Caller:
        """Return who calls; raise Unauthenticated, PermissionDenied or KeysUnavailable."""
        caller = authenticate(call, self.keys(), self.clock.now())
        authorize(caller, call.method, self.methods.get(call.method))
        return caller

    async def record(self, call: IncomingCall, caller: Caller | None, outcome: CallOutcome) -> None:
        """Have the call recorded if it is a command, or was refused."""
        needed = self.methods.get(call.method)
        if outcome.code in _REFUSALS or (needed is not None and needed.is_command):
            await self.audit(CallRecord(at=self.clock.now(), call=call, caller=caller, outcome=outcome))


def chosen_guard(
    authentication: str,
    keys: Callable[[], Mapping[str, KeyRecord] | None],
    clock: Clock,
    audit: Callable[[CallRecord], Awaitable[None]] = record_nothing,
) -> Guard:
    """Return the guard that the setting AUTHENTICATION asks for."""
    if authentication == "off":
        return OpenGuard()
    return RoleGuard(methods=own_methods(), keys=keys, clock=clock, audit=audit)
