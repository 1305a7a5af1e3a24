"""A guard for servers whose callers do not matter."""

from services.chassis.callers import ANONYMOUS_ADMIN, Caller, CallOutcome, IncomingCall


class OpenGuard:
    """Lets everybody do everything, and records nothing."""

    def admit(self, call: IncomingCall) -> Caller:  # noqa: ARG002  (the port's signature)
        return ANONYMOUS_ADMIN

    async def record(self, call: IncomingCall, caller: Caller | None, outcome: CallOutcome) -> None:
        pass
