"""People, schedules and policies as they are stored, and what an edit of them changes."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.fingerprint import digest
from services.manager.core.escalation_policy import EscalationPolicy
from services.manager.core.on_call import OnCallDirectory, Person, Schedule, ScheduleOverride

# An override that ended so long ago is deleted when another one is created.
OVERRIDE_RETENTION = timedelta(days=30)
MAX_OVERRIDES = 200

OnCallResource = Person | Schedule | EscalationPolicy


class OnCallKind(StrEnum):
    """What a resource is; the names are those of the contract."""

    PERSON = "PERSON"
    SCHEDULE = "SCHEDULE"
    POLICY = "POLICY"


# Each manager keeps all of them in memory.
MAX_RESOURCES: Mapping[OnCallKind, int] = {OnCallKind.PERSON: 1000, OnCallKind.SCHEDULE: 500, OnCallKind.POLICY: 500}
RESOURCE_NOUNS: Mapping[OnCallKind, str] = {
    OnCallKind.PERSON: "people",
    OnCallKind.SCHEDULE: "schedules",
    OnCallKind.POLICY: "policies",
}
ResourceKey = tuple[OnCallKind, str]


class OnCallChange(StrEnum):
    """What an edit does to a resource; the names are those of the contract."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallRecord:
    """A resource, the revision at which it was last changed, and when; a schedule here has no overrides."""

    value: OnCallResource
    revision: int
    create_time: datetime
    update_time: datetime

    @property
    def key(self) -> ResourceKey:
        """Return what the resource is, and its name."""
        return key_of(self.value)

    @property
    def etag(self) -> str:
        """Return a text that differs between revisions."""
        return digest("on-call", *self.key, str(self.revision))[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallSnapshot:
    """Everything that is stored, at one revision."""

    revision: int = 0
    # Differs between databases.
    epoch: str = ""
    records: Mapping[ResourceKey, OnCallRecord] = field(default_factory=dict)
    # In the order in which they were created.
    overrides: tuple[ScheduleOverride, ...] = ()

    @property
    def version(self) -> str:
        """Return a text that differs between revisions and between databases."""
        return f"{self.epoch}.{self.revision}"

    def directory(self) -> OnCallDirectory:
        """Return what decisions read."""
        people: dict[str, Person] = {}
        schedules: dict[str, Schedule] = {}
        policies: dict[str, EscalationPolicy] = {}
        for value in (record.value for record in self.records.values()):
            match value:
                case Person():
                    people[value.name] = value
                case Schedule():
                    schedules[value.name] = replace(value, overrides=self.overrides_of(value.name))
                case _:
                    policies[value.name] = value
        return OnCallDirectory(people=people, schedules=schedules, policies=policies, revision=self.revision)

    def overrides_of(self, schedule: str) -> tuple[ScheduleOverride, ...]:
        """Return the overrides of a schedule in the order in which they were created."""
        return tuple(each for each in self.overrides if each.schedule == schedule)

    def names(self, kind: OnCallKind) -> list[str]:
        """Return the names of one kind in their order."""
        return sorted(name for each, name in self.records if each is kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallEdit:
    """What is written in one transaction."""

    upserted: tuple[OnCallRecord, ...] = ()
    deleted: tuple[ResourceKey, ...] = ()
    new_overrides: tuple[ScheduleOverride, ...] = ()
    # Their ids.
    deleted_overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedResource:
    """What an edit does to one resource, and the record after it."""

    change: OnCallChange
    record: OnCallRecord


def key_of(value: OnCallResource) -> ResourceKey:
    """Return what a resource is, and its name."""
    match value:
        case Person():
            return OnCallKind.PERSON, value.name
        case Schedule():
            return OnCallKind.SCHEDULE, value.name
        case _:
            return OnCallKind.POLICY, value.name


def apply_resources(
    before: OnCallSnapshot, values: Sequence[OnCallResource], revision: int, *, now: datetime
) -> list[AppliedResource]:
    """Return what becomes of each resource at a new revision."""
    return [_apply(before.records.get(key_of(value)), value, revision, now) for value in values]


def snapshot_after(before: OnCallSnapshot, edit: OnCallEdit, revision: int) -> OnCallSnapshot:
    """Return everything that is stored after an edit."""
    records = {key: record for key, record in before.records.items() if key not in edit.deleted}
    kept = (each for each in before.overrides if each.id not in edit.deleted_overrides)
    return replace(
        before,
        revision=revision,
        records=records | {record.key: record for record in edit.upserted},
        overrides=(*kept, *edit.new_overrides),
    )


def exceeded_kind(snapshot: OnCallSnapshot) -> OnCallKind | None:
    """Return a kind of which there are more resources than there may be, if any."""
    return next((kind for kind, limit in MAX_RESOURCES.items() if len(snapshot.names(kind)) > limit), None)


def delete_resource(before: OnCallSnapshot, key: ResourceKey) -> OnCallEdit:
    """Return the edit that deletes a resource that nothing uses, with its overrides."""
    kind, name = key
    overrides = (each for each in before.overrides if _belongs_to(each, kind, name))
    return OnCallEdit(deleted=(key,), deleted_overrides=tuple(each.id for each in overrides))


def users_of(
    snapshot: OnCallSnapshot, key: ResourceKey, *, routed_policies: Collection[str] = (), now: datetime
) -> list[str]:
    """Return what refers to a resource, in words, in the order of the names."""
    kind, name = key
    records = sorted(snapshot.records.values(), key=lambda record: record.key)
    found = [_words(record.key) for record in records if key in set(_referred(record.value))]
    if kind is OnCallKind.PERSON:
        current = {each.schedule for each in snapshot.overrides if each.person == name and each.end_time > now}
        found += [f'an override of schedule "{schedule}"' for schedule in sorted(current)]
    if kind is OnCallKind.POLICY and name in routed_policies:
        found.append("the routing tree")
    return found


def add_override(before: OnCallSnapshot, override: ScheduleOverride, *, now: datetime) -> OnCallEdit | None:
    """Return the edit that adds an override and deletes old ones of its schedule; None when there are too many."""
    overrides = before.overrides_of(override.schedule)
    old = tuple(each.id for each in overrides if each.end_time < now - OVERRIDE_RETENTION)
    if len(overrides) - len(old) >= MAX_OVERRIDES:
        return None
    return OnCallEdit(new_overrides=(override,), deleted_overrides=old)


def _apply(before: OnCallRecord | None, value: OnCallResource, revision: int, now: datetime) -> AppliedResource:
    if before is None:
        record = OnCallRecord(value=value, revision=revision, create_time=now, update_time=now)
        return AppliedResource(change=OnCallChange.CREATED, record=record)
    if before.value == value:
        return AppliedResource(change=OnCallChange.UNCHANGED, record=before)
    record = replace(before, value=value, revision=revision, update_time=now)
    return AppliedResource(change=OnCallChange.UPDATED, record=record)


def _belongs_to(override: ScheduleOverride, kind: OnCallKind, name: str) -> bool:
    match kind:
        case OnCallKind.SCHEDULE:
            return override.schedule == name
        case OnCallKind.PERSON:
            return override.person == name
        case _:
            return False


def _referred(value: OnCallResource) -> Iterator[ResourceKey]:
    match value:
        case Schedule():
            yield from _keys(OnCallKind.PERSON, (name for layer in value.layers for name in layer.people))
        case EscalationPolicy():
            yield from _keys(OnCallKind.PERSON, (name for step in value.steps for name in step.people))
            yield from _keys(OnCallKind.SCHEDULE, (name for step in value.steps for name in step.schedules))
        case _:
            pass


def _keys(kind: OnCallKind, names: Iterable[str]) -> Iterator[ResourceKey]:
    return ((kind, name) for name in names)


def _words(key: ResourceKey) -> str:
    kind, name = key
    return f'{kind.value.lower()} "{name}"'
