"""Change people, schedules, escalation policies and overrides: what a call changes, in one transaction."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure, Violation
from services.manager.core.on_call import ScheduleOverride
from services.manager.core.on_call_checks import (
    names_receivers,
    override_problems,
    reference_problems,
    resource_warnings,
)
from services.manager.core.on_call_records import (
    MAX_OVERRIDES,
    MAX_RESOURCES,
    RESOURCE_NOUNS,
    AppliedResource,
    OnCallChange,
    OnCallEdit,
    OnCallKind,
    OnCallRecord,
    OnCallSnapshot,
    ResourceKey,
    add_override,
    apply_resources,
    delete_resource,
    exceeded_kind,
    key_of,
    snapshot_after,
    users_of,
)
from services.manager.ports.feeds import OnCallFeed, ReceiverFeed
from services.manager.ports.tables import Store, Transaction
from services.manager.rpc.failures import (
    OverrideNotFound,
    PersonNotFound,
    PolicyNotFound,
    ScheduleNotFound,
    StillInUse,
    TooManyOnCall,
)
from services.manager.rpc.on_call_messages import GivenResource, ResourceMessage, override_message, read_resource
from services.manager.rpc.on_call_messages import resource_message as message_of
from services.manager.rpc.requests import (
    act_once,
    actor_of,
    check_etag,
    check_fields,
    check_length,
    optional_time,
    refuse_if_any,
)
from tocsin.oncall.v1 import on_call_service_pb2 as pb

log = structlog.get_logger()

_UNCHECKED = "the notifier did not answer, so the names of receivers were not checked"
_MAX_ACTOR = 256
_MAX_WARNINGS = 100
_STORED_FIELDS = ("etag", "create_time", "update_time")
_NOT_FOUND: dict[OnCallKind, type[Failure]] = {
    OnCallKind.PERSON: PersonNotFound,
    OnCallKind.SCHEDULE: ScheduleNotFound,
    OnCallKind.POLICY: PolicyNotFound,
}

ReplaceRequest = pb.ReplacePersonRequest | pb.ReplaceScheduleRequest | pb.ReplaceEscalationPolicyRequest
DeleteRequest = pb.DeletePersonRequest | pb.DeleteScheduleRequest | pb.DeleteEscalationPolicyRequest
_Request = ReplaceRequest | pb.ApplyOnCallRequest | pb.CreateOverrideRequest
_Response = TypeVar(
    "_Response",
    pb.ReplacePersonResponse,
    pb.ReplaceScheduleResponse,
    pb.ReplaceEscalationPolicyResponse,
    pb.ApplyOnCallResponse,
    pb.CreateOverrideResponse,
)


class OnCallCommands:
    """Changes all of it; a repeated call with a request_id does so once, one that validates only not at all."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        feed: OnCallFeed,
        receivers: ReceiverFeed,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._feed = feed
        self._receivers = receivers

    async def apply(self, request: pb.ApplyOnCallRequest) -> pb.ApplyOnCallResponse:
        """Create or replace people, schedules and policies, all of them or none."""
        _check_counts(request)
        messages: list[tuple[str, ResourceMessage]] = [
            *((f"people[{n}].", person) for n, person in enumerate(request.people)),
            *((f"schedules[{n}].", schedule) for n, schedule in enumerate(request.schedules)),
            *((f"policies[{n}].", policy) for n, policy in enumerate(request.policies)),
        ]
        given = [read_resource(message, path) for path, message in messages]
        refuse_if_any(*(found for each in given for found in each.violations), *_repeated_names(given))
        warnings = await self._warnings(given)

        async def act(transaction: Transaction) -> pb.ApplyOnCallResponse:
            applied = await _apply(transaction, given, self._clock.now())
            results = [_result(each, is_stored=not request.validate_only) for each in applied]
            return pb.ApplyOnCallResponse(results=results, warnings=warnings)

        return await self._run(request, pb.ApplyOnCallResponse, act)

    async def replace(self, request: ReplaceRequest, field: str, response_type: type[_Response]) -> _Response:
        """Create or replace one of them, which stands in this field of request and response."""
        check_fields(request, "name")
        message: Any = getattr(request, field)
        if message.name not in {"", request.name}:
            refuse_if_any(Violation("name", f'is "{message.name}", but the path has "{request.name}"'))
        named = type(message)()
        named.CopyFrom(message)
        named.name = request.name
        given = read_resource(named, "")
        refuse_if_any(*given.violations)
        warnings = await self._warnings([given])

        async def act(transaction: Transaction) -> _Response:
            (applied,) = await _apply(transaction, [given], self._clock.now())
            stored: Any = message_of(applied.record)
            if request.validate_only:
                for name in _STORED_FIELDS:
                    stored.ClearField(name)
            return response_type(**{field: stored, "warnings": warnings})

        return await self._run(request, response_type, act)

    async def delete(self, kind: OnCallKind, request: DeleteRequest) -> None:
        """Delete one of them, unless something refers to it."""
        check_fields(request, "name")
        key = (kind, request.name)
        async with self._store.transaction() as transaction:
            # Whoever sets a tree holds this lock too, so that no tree comes to name a policy that is deleted here.
            tree = await transaction.routing.lock() if kind is OnCallKind.POLICY else None
            revision = await transaction.on_call.lock()
            before = await transaction.on_call.load()
            check_etag(request.etag, stored_record(before, key).etag)
            routed = () if tree is None else tree.tree.policies()
            users = users_of(before, key, routed_policies=routed, now=self._clock.now())
            if users:
                raise StillInUse(f"it is still used by {', '.join(users[:10])}", name=request.name)
            await transaction.on_call.save(delete_resource(before, key), revision)
        await self._take_effect()

    async def create_override(self, request: pb.CreateOverrideRequest) -> pb.CreateOverrideResponse:
        check_fields(request, "schedule")
        now = self._clock.now()
        override = _read_override(request, self._new_id(), now)
        problems = override_problems(override, now=now)
        refuse_if_any(*(Violation(field, description) for field, description in problems))

        async def act(transaction: Transaction) -> pb.CreateOverrideResponse:
            revision = await transaction.on_call.lock()
            before = await transaction.on_call.load()
            stored_record(before, (OnCallKind.SCHEDULE, request.schedule))
            if (OnCallKind.PERSON, override.person) not in before.records:
                refuse_if_any(Violation("person", "there is no person of this name"))
            edit = add_override(before, override, now=now)
            if edit is None:
                raise TooManyOnCall(f"a schedule may have {MAX_OVERRIDES} overrides; delete some first")
            await transaction.on_call.save(edit, revision)
            message = override_message(override)
            if request.validate_only:
                message.ClearField("id")
            return pb.CreateOverrideResponse(override=message)

        return await self._run(request, pb.CreateOverrideResponse, act)

    async def delete_override(self, request: pb.DeleteOverrideRequest) -> pb.DeleteOverrideResponse:
        check_fields(request, "schedule", "id")
        async with self._store.transaction() as transaction:
            revision = await transaction.on_call.lock()
            before = await transaction.on_call.load()
            stored_record(before, (OnCallKind.SCHEDULE, request.schedule))
            if not any(each.id == request.id for each in before.overrides_of(request.schedule)):
                raise OverrideNotFound("the schedule has no override with this id", override_id=request.id)
            await transaction.on_call.save(OnCallEdit(deleted_overrides=(request.id,)), revision)
        await self._take_effect()
        return pb.DeleteOverrideResponse()

    async def _run(
        self,
        request: _Request,
        response_type: type[_Response],
        act: Callable[[Transaction], Awaitable[_Response]],
    ) -> _Response:
        response = await act_once(self._store, request, response_type, act, now=self._clock.now())
        if not request.validate_only:
            await self._take_effect()
        return response

    async def _warnings(self, given: Sequence[GivenResource]) -> list[pb.OnCallWarning]:
        """Return what may not be meant; before the transaction, which must not wait for another service."""
        known: Collection[str] | None = None
        found: list[pb.OnCallWarning] = []
        if any(names_receivers(each.value) for each in given):
            try:
                known = (await self._receivers.receivers()).names
            except Failure as failure:
                log.warning("receivers_not_checked", reason=failure.reason)
                found.append(pb.OnCallWarning(field="receivers", description=_UNCHECKED))
        found += (
            pb.OnCallWarning(field=f"{each.path}{field}", description=description)
            for each in given
            for field, description in resource_warnings(each.value, known)
        )
        return found[:_MAX_WARNINGS]

    async def _take_effect(self) -> None:
        """Have this instance know what was written before it responds; the others learn of it in a moment."""
        with suppress(Failure):
            await self._feed.refresh()


def _check_counts(request: pb.ApplyOnCallRequest) -> None:
    given = {
        OnCallKind.PERSON: len(request.people),
        OnCallKind.SCHEDULE: len(request.schedules),
        OnCallKind.POLICY: len(request.policies),
    }
    if not any(given.values()):
        refuse_if_any(Violation("people", "is required, or schedules, or policies"))
    refuse_if_any(
        *(
            Violation(RESOURCE_NOUNS[kind], f"has {count} entries, at most {MAX_RESOURCES[kind]} are allowed")
            for kind, count in given.items()
            if count > MAX_RESOURCES[kind]
        )
    )


def _repeated_names(given: Sequence[GivenResource]) -> Iterator[Violation]:
    counts = Counter(key_of(each.value) for each in given)
    for each in given:
        if each.value.name and counts[key_of(each.value)] > 1:
            yield Violation(f"{each.path}name", "stands there several times; each name is given once")


async def _apply(transaction: Transaction, given: Sequence[GivenResource], now: datetime) -> list[AppliedResource]:
    revision = await transaction.on_call.lock()
    before = await transaction.on_call.load()
    for each in given:
        record = before.records.get(key_of(each.value))
        check_etag(each.etag, "" if record is None else record.etag)
    applied = apply_resources(before, [each.value for each in given], revision, now=now)
    edit = OnCallEdit(upserted=tuple(each.record for each in applied if each.change is not OnCallChange.UNCHANGED))
    after = snapshot_after(before, edit, revision)
    people, schedules = (frozenset(after.names(kind)) for kind in (OnCallKind.PERSON, OnCallKind.SCHEDULE))
    refuse_if_any(
        *(
            Violation(f"{each.path}{field}", description)
            for each in given
            for field, description in reference_problems(each.value, people, schedules)
        )
    )
    if exceeded := exceeded_kind(after):
        raise TooManyOnCall(f"there may be {MAX_RESOURCES[exceeded]} {RESOURCE_NOUNS[exceeded]}; delete some first")
    if edit.upserted:
        await transaction.on_call.save(edit, revision)
    return applied


def stored_record(snapshot: OnCallSnapshot, key: ResourceKey) -> OnCallRecord:
    """Return what is stored under a key. Raises the failure of its kind."""
    record = snapshot.records.get(key)
    if record is None:
        kind, name = key
        raise _NOT_FOUND[kind](f"there is no {kind.value.lower()} of this name", name=name)
    return record


def _read_override(request: pb.CreateOverrideRequest, override_id: str, now: datetime) -> ScheduleOverride:
    message = request.override
    check_length(message, actor=_MAX_ACTOR)
    missing = [] if message.person else [Violation("person", "is required")]
    if not message.HasField("end_time"):
        missing.append(Violation("endTime", "is required"))
    refuse_if_any(*missing)
    end = optional_time(message, "end_time")
    return ScheduleOverride(
        id=override_id,
        schedule=request.schedule,
        person=message.person,
        start_time=optional_time(message, "start_time") or now,
        end_time=now if end is None else end,
        create_time=now,
        actor=actor_of(message.actor),
    )


def _result(applied: AppliedResource, *, is_stored: bool) -> pb.AppliedOnCall:
    kind, name = applied.record.key
    return pb.AppliedOnCall(
        kind=pb.AppliedOnCall.Kind.Value(kind.value),
        name=name,
        change=pb.AppliedOnCall.Change.Value(applied.change.value),
        etag=applied.record.etag if is_stored else "",
    )
