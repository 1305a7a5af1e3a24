"""Services in YAML and JSON files, with the names of the REST interface; Backstage's files too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.catalog.backstage import entry_values, is_backstage, other_kind
from cli.document_files import load_values
from cli.file_values import FileValueError, is_output, mapping_of, text_of, unknown_field
from cli.output import ErrorDetail, OutputFormat
from services.domain.found_values import expected
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry

_FIELDS = {name: field for field in ServiceEntry.DESCRIPTOR.fields for name in (field.json_name, field.name)}
OUTPUT_ONLY = frozenset(field.json_name for field in ServiceEntry.DESCRIPTOR.fields if is_output(field))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A service of a file, its place in the file, and what cannot be read of it, by field."""

    place: str
    entry: ServiceEntry
    problems: Sequence[tuple[str, str]] = ()

    @property
    def label(self) -> str:
        """The service's name in quotes; where it has none, its place."""
        return f'"{self.entry.name}"' if self.entry.name else self.place

    def detail(self, field: str, description: str) -> ErrorDetail:
        """Return what is wrong with a field of this entry."""
        place = f"{self.place}.{field}" if field else self.place
        return ErrorDetail(field=place, rule=self.entry.name, description=description)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntries:
    """The services of some files, and what in them is no service and was skipped."""

    entries: Sequence[FileEntry]
    skipped: Sequence[ErrorDetail] = ()


def load_entries(paths: Sequence[Path], output: OutputFormat) -> FileEntries:
    """Load the services of files; two of one name are a problem of the second one.

    A file without any, or that is not YAML, ends the command with exit code 2; an entry has its own problems.
    """
    entries: list[FileEntry] = []
    skipped: list[ErrorDetail] = []
    for path in paths:
        prefix = "" if len(paths) == 1 else f"{path}: "
        values = load_values(
            path, output, key="services", noun="service", text_mappings=("labels", "links", "annotations")
        )
        read = read_entries(values, prefix=prefix)
        entries += read.entries
        skipped += read.skipped
    return FileEntries(entries=_name_duplicates(entries), skipped=skipped)


def read_entries(values: Sequence[Any], *, prefix: str = "") -> FileEntries:
    """Read values as services."""
    entries: list[FileEntry] = []
    skipped: list[ErrorDetail] = []
    for index, value in enumerate(values):
        place = f"{prefix}services[{index}]"
        if not is_backstage(value):
            entries.append(_read(place, value))
        elif kind := other_kind(value):
            skipped.append(ErrorDetail(field=place, description=f"{kind} is not a Component of Backstage: skipped"))
        else:
            converted = entry_values(value)
            skipped += [ErrorDetail(field=f"{place}.{field}", description=why) for field, why in converted.skipped]
            entries.append(_read(place, converted.values, converted.problems))
    return FileEntries(entries=entries, skipped=skipped)


def written_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry in JSON that people set, in the order of the contract."""
    names = [field.json_name for field in ServiceEntry.DESCRIPTOR.fields]
    return {name: entry[name] for name in names if name in entry and name not in OUTPUT_ONLY and name != "etag"}


def _read(place: str, values: Any, problems: Sequence[tuple[str, str]] = ()) -> FileEntry:
    entry, found = ServiceEntry(), list(problems)
    if not isinstance(values, Mapping):
        wrong = expected("a mapping with name, owner, …", values)
        return FileEntry(place=place, entry=entry, problems=[*found, ("", wrong)])
    given: dict[str, str] = {}
    for name, value in ((str(name), value) for name, value in values.items()):
        field = _FIELDS.get(name)
        if field is None:
            found.append((name, unknown_field(name, ServiceEntry)))
        elif (first := given.setdefault(field.name, name)) != name:
            found.append((first, f"these names are of one field: {first}, {name}"))
        elif value is not None and field.json_name not in OUTPUT_ONLY:
            found += _read_field(entry, field.name, name, value)
    return FileEntry(place=place, entry=entry, problems=found)


def _read_field(entry: ServiceEntry, field: str, name: str, value: Any) -> list[tuple[str, str]]:
    try:
        _READERS[field](entry, value)
    except FileValueError as problem:
        return [(name, str(problem))]
    except UnicodeEncodeError:
        return [(name, "has characters that UTF-8 cannot hold")]
    return []


def _links(entry: ServiceEntry, value: Any) -> None:
    entry.links.update(mapping_of(value, "link", "{runbook: https://…}"))


def _labels(entry: ServiceEntry, value: Any) -> None:
    entry.labels.update(mapping_of(value, "label", "{team: payments}"))


def _dependencies(entry: ServiceEntry, value: Any) -> None:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileValueError(expected("a list of services such as [ledger, bank]", value))
    # As they are stored.
    entry.depends_on.extend(sorted(set(names)))


def _text(name: str) -> Callable[[ServiceEntry, Any], None]:
    return lambda entry, value: setattr(entry, name, text_of(value))


# By proto name.
_READERS: Mapping[str, Callable[[ServiceEntry, Any], None]] = {
    **{name: _text(name) for name in ("name", "owner", "tier", "description", "etag")},
    "links": _links,
    "labels": _labels,
    "depends_on": _dependencies,
}


def _name_duplicates(entries: Sequence[FileEntry]) -> list[FileEntry]:
    first: dict[str, FileEntry] = {}
    named: list[FileEntry] = []
    for entry in entries:
        earlier = first.setdefault(entry.entry.name, entry)
        if earlier is not entry and entry.entry.name:
            problem = ("name", f"this name is used already by {earlier.place}; each service has one entry")
            named.append(replace(entry, problems=[*entry.problems, problem]))
        else:
            named.append(entry)
    return named
