"""Backstage's descriptor files (catalog-info.yaml): a Component as an entry of the catalog."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.domain.found_values import expected
from services.domain.links import is_link

_API = "backstage.io/"
_DEFAULT_NAMESPACE = "default"
# Other services as far as alerts are concerned.
_DEPENDENCIES = frozenset({"", "component", "resource"})
_MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedEntry:
    """The values of an entry, and what of the Component cannot be read or has no place in an entry, by field."""

    values: Mapping[str, Any]
    problems: Sequence[tuple[str, str]]
    skipped: Sequence[tuple[str, str]]


def is_backstage(value: Any) -> bool:
    """Return whether a value is an entity of Backstage."""
    return isinstance(value, Mapping) and "kind" in value and str(value.get("apiVersion", "")).startswith(_API)


def other_kind(value: Mapping[str, Any]) -> str:
    """Return kind and name of an entity that is no Component; empty for a Component."""
    kind = str(value["kind"])
    return "" if kind == "Component" else f"{kind} {_mapping(value.get('metadata')).get('name', '')}".strip()


def entry_values(value: Mapping[str, Any]) -> ConvertedEntry:
    """Return a Component as the values of an entry."""
    problems = [
        (name, expected("a mapping", value.get(name)))
        for name in ("metadata", "spec")
        if not isinstance(value.get(name), Mapping)
    ]
    metadata, spec = _mapping(value.get("metadata")), _mapping(value.get("spec"))
    dependencies, skipped, wrong = _dependencies(spec.get("dependsOn"))
    links, wrong_links = _links(metadata)
    labels = _labels(metadata, spec)
    values = {
        "name": metadata.get("name"),
        "owner": _owner_name(str(spec["owner"])) if spec.get("owner") else None,
        "tier": next((text for name, text in labels.items() if name.rpartition("/")[2] == "tier"), None),
        "description": metadata.get("description"),
        "links": links,
        "labels": labels,
        "depends_on": dependencies,
    }
    return ConvertedEntry(values=values, problems=[*problems, *wrong, *wrong_links], skipped=skipped)


def _labels(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels of a Component; its lifecycle and tags are labels too."""
    tags = metadata.get("tags")
    joined = ",".join(map(str, tags)) if isinstance(tags, list) else None
    more = {"lifecycle": spec.get("lifecycle"), "tags": joined}
    return {**{name: text for name, text in more.items() if text}, **_mapping(metadata.get("labels"))}


def _links(metadata: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    found: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    given = metadata.get("links") or []
    if not isinstance(given, list):
        return {}, [("metadata.links", expected("a list of links", given))]
    for index, link in enumerate(given):
        if not isinstance(link, Mapping) or not isinstance(link.get("url"), str):
            problems.append((f"metadata.links[{index}]", expected("a link with its url", link)))
            continue
        name = str(link.get("title") or link.get("type") or "link")[:_MAX_NAME]
        found[_free_name(name, found)] = link["url"]
    for name, address in _annotated(_mapping(metadata.get("annotations"))):
        found.setdefault(name, address)
    return found, problems


def _annotated(annotations: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the links in annotations: the source, and each whose value is an address, by the end of its name."""
    for name, value in ((str(name), str(value)) for name, value in annotations.items()):
        last = name.rpartition("/")[2]
        if name == "github.com/project-slug":
            yield "repository", f"https://github.com/{value}"
        elif last in {"source-location", "managed-by-location", "managed-by-origin-location"}:
            if last == "source-location" and is_link(address := value.removeprefix("url:")):
                yield "repository", address
        elif is_link(value):
            yield last.removesuffix("-url")[:_MAX_NAME], value


def _dependencies(given: Any) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the names of the services, and what of the list is skipped, and what is wrong in it."""
    if given is not None and not isinstance(given, list):
        return [], [], [("spec.dependsOn", expected("a list of references such as component:default/ledger", given))]
    names: list[str] = []
    skipped: list[tuple[str, str]] = []
    wrong: list[tuple[str, str]] = []
    for index, reference in enumerate(given or []):
        place = f"spec.dependsOn[{index}]"
        name = _name_of(reference) if isinstance(reference, str) else ""
        if not name:
            wrong.append((place, expected("a reference such as component:default/ledger", reference)))
        elif (kind := _kind_of(str(reference))) not in _DEPENDENCIES:
            skipped.append((place, f"{kind} is neither component nor resource: skipped"))
        else:
            names.append(name)
    return names, skipped, wrong


def _kind_of(reference: str) -> str:
    return reference.partition(":")[0].lower() if ":" in reference else ""


def _name_of(reference: str) -> str:
    """Return the name in a reference [kind:][namespace/]name: the service of events has no namespace."""
    return reference.rpartition(":")[2].rpartition("/")[2]


def _owner_name(reference: str) -> str:
    """Return the name of a group or user, with its namespace where that is not the default one."""
    return reference.rpartition(":")[2].removeprefix(f"{_DEFAULT_NAMESPACE}/")


def _free_name(name: str, taken: Mapping[str, str]) -> str:
    """Return the name, with a number behind it where it is taken."""
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name[: _MAX_NAME - 4]} {number}"
    return free


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
