"""Load a frozen dataclass from environment variables, and report all problems at once.

Each secret NAME is also read from the file that the variable NAME_FILE names. Import it from
`services.chassis.settings`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from services.chassis.secret_files import FileSecret, Secret

_T = TypeVar("_T")

_HELP, _SHOWN, _CHECK, _FORMER, _DEFAULTS = "help", "shown", "check", "former", "defaults"
# In the name of a setting: the path of a file that holds the secret.
FILE_SUFFIX = "_FILE"
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_UNITS)})")
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class SettingsError(Exception):
    """The settings are not usable; `problems` lists everything that is wrong with them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


_TYPE_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "double",
    str: "string",
    timedelta: "duration",
    Path: "path",
    Secret: "secret",
}
_EXPECTED = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    timedelta: "a duration such as 500ms, 5s or 2m",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RenamedSetting:
    """A setting whose former name is in the environment; `used` is the name whose value was read."""

    former: str
    name: str
    used: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDoc:
    """One setting, as help and documents show it."""

    name: str
    type: str
    required: bool
    default: str | None
    help: str


def setting(
    help: str,  # noqa: A002  (the word that every option parser uses)
    *,
    default: Any = MISSING,
    default_factory: Callable[[], Any] | None = None,
    shown: str | None = None,
    check: Callable[[Any], None] | None = None,
    former: str = "",
) -> Any:
    """Declare one setting; without a default it is required. `shown` describes a default that is computed.

    `check` raises ValueError with a text that follows the setting's name: "must be …". `former` is the field's name in
    the release before: it is still read where the new name is not set.
    """
    metadata = {_HELP: help, _SHOWN: shown, _CHECK: check, _FORMER: former}
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def part(**defaults: Any) -> Any:
    """Nest another settings dataclass, with this service's own defaults."""
    return dataclasses.field(metadata={_DEFAULTS: defaults})


def load_settings(kind: type[_T], prefix: str, environ: Mapping[str, str]) -> _T:
    """Read a settings dataclass from `environ`; raise SettingsError with all problems at once."""
    problems: list[str] = []
    settings = _build(kind, prefix, environ, {}, problems)
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def describe_settings(kind: type[Any], prefix: str) -> list[SettingDoc]:
    """List every setting that `load` reads, in order of declaration; each secret is followed by its file."""
    docs: list[SettingDoc] = []
    for field, hint, has_default, default in _leaves(kind, {}):
        doc = SettingDoc(
            name=prefix + field.name.upper(),
            type=_type_name(hint),
            required=not has_default,
            default=None if not has_default else field.metadata[_SHOWN] or _format(default),
            help=field.metadata[_HELP],
        )
        docs += [doc] if hint is not Secret else [doc, _file_doc(doc)]
    return docs


def _file_doc(secret: SettingDoc) -> SettingDoc:
    return SettingDoc(
        name=secret.name + FILE_SUFFIX,
        type=_TYPE_NAMES[Path],
        required=False,
        default="",
        help=f"Path of a file that holds {secret.name}, in its place; it is read again when it changes.",
    )


def renamed_settings(kind: type[Any], prefix: str, environ: Mapping[str, str]) -> list[RenamedSetting]:
    """List the settings that `environ` has under their former names; each deserves a warning.

    Where both names are set, the new one is used: so one environment can serve both releases during an upgrade.
    """
    return [
        RenamedSetting(former=former, name=prefix + field.name.upper(), used=_name_in(environ, field, prefix))
        for field, *_ in _leaves(kind, {})
        if (former := _former_name(field, prefix)) in environ
    ]


def _build(
    kind: type[_T], prefix: str, environ: Mapping[str, str], overrides: Mapping[str, Any], problems: list[str]
) -> _T | None:
    values: dict[str, Any] = {}
    before = len(problems)
    for field, hint in _fields(kind):
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            values[field.name] = _build(hint, prefix, environ, field.metadata.get(_DEFAULTS, {}), problems)
        else:
            name = _name_in(environ, field, prefix)
            values[field.name] = _read(field, hint, name, environ, overrides, problems)
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(_with_names(str(error), prefix, values))
        return None


def _with_names(problem: str, prefix: str, names: Iterable[str]) -> str:
    """Return what a class says of its fields with the names of the settings.

    A field of one word is a name only before what it must be: behind that it may be just a word.
    """
    subject, must, rest = problem.partition(" must ")
    found = subject
    for name in names:
        if must or "_" in name:
            found = re.sub(rf"\b{name}\b", prefix + name.upper(), found)
        if "_" in name:
            rest = re.sub(rf"\b{name}\b", prefix + name.upper(), rest)
    return f"{found}{must}{rest}" if found != subject else f"{prefix.rstrip('_')}: {problem}"


def _name_in(environ: Mapping[str, str], field: dataclasses.Field[Any], prefix: str) -> str:
    """Return the name that the setting is read under: the new one, unless only the former one is set."""
    name, former = prefix + field.name.upper(), _former_name(field, prefix)
    return former if former in environ and name not in environ else name


def _former_name(field: dataclasses.Field[Any], prefix: str) -> str:
    former = field.metadata.get(_FORMER)
    return prefix + former.upper() if former else ""


def _read(
    field: dataclasses.Field[Any],
    hint: Any,
    name: str,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
    problems: list[str],
) -> Any:
    raw = environ.get(name)
    if hint is Secret and (path := environ.get(name + FILE_SUFFIX, "").strip()):
        return _read_secret(name, raw, Path(path), field.metadata[_CHECK], problems)
    has_default, default = _default(field, overrides)
    if raw is None or not (has_default or raw.strip()):
        if not has_default:
            problems.append(f"{name} is required")
        return default() if callable(default) else default
    try:
        value = parse(hint, raw)
    except ValueError:
        problems.append(f"{name} must be {_EXPECTED.get(hint, f'a {_type_name(hint)}')}")
        return None
    try:
        if check := field.metadata[_CHECK]:
            check(value)
    except ValueError as error:
        problems.append(f"{name} {error}")
    return value


def _read_secret(
    name: str, raw: str | None, path: Path, check: Callable[[Any], None] | None, problems: list[str]
) -> Secret | None:
    if raw and raw.strip():
        problems.append(f"{name} and {name}{FILE_SUFFIX} are both set; set one of them")
        return None
    try:
        return FileSecret(path, check)
    except ValueError as error:
        # Without the path: where somebody gave the secret itself, that would show it.
        problems.append(f"{name}{FILE_SUFFIX}: the file {error}")
        return None


def parse(hint: Any, raw: str) -> Any:
    """Parse an environment variable's text as a value of the type; raise ValueError."""
    if hint is bool:
        return _boolean(raw)
    if hint is timedelta:
        return _duration(raw)
    if get_origin(hint) is tuple:
        item, _ = get_args(hint)
        return tuple(parse(item, piece.strip()) for piece in raw.split(",") if piece.strip())
    if hint in {str, int, float, Path, Secret}:
        return hint(raw.strip())
    raise TypeError(f"settings cannot hold {hint}")


def _boolean(raw: str) -> bool:
    try:
        return _BOOLEANS[raw.strip().lower()]
    except KeyError:
        raise ValueError(raw) from None


def _duration(raw: str) -> timedelta:
    match = _DURATION.fullmatch(raw.strip())
    if match is None:
        raise ValueError(raw)
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def _fields(kind: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


def _leaves(kind: type[Any], overrides: Mapping[str, Any]) -> Iterator[tuple[dataclasses.Field[Any], Any, bool, Any]]:
    for field, hint in _fields(kind):
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, field.metadata.get(_DEFAULTS, {}))
        else:
            yield field, hint, *_default(field, overrides)


def _default(field: dataclasses.Field[Any], overrides: Mapping[str, Any]) -> tuple[bool, Any]:
    """Return whether the field has a default, and the default or the function that returns it."""
    if field.name in overrides:
        return True, overrides[field.name]
    if field.default_factory is not MISSING:
        return True, field.default_factory
    return (False, None) if field.default is MISSING else (True, field.default)


def _type_name(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"list of {_type_name(get_args(hint)[0])}"
    return _TYPE_NAMES[hint]


def _format(value: Any) -> str:
    if isinstance(value, timedelta):
        return _format_duration(value)
    if isinstance(value, Secret):
        return ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _format_duration(value: timedelta) -> str:
    """Format a duration as `load` reads it, in the largest unit of which it is a multiple."""
    if not value:
        return "0s"
    unit = next(unit for unit in reversed(_UNITS) if not value % timedelta(seconds=_UNITS[unit]))
    return f"{value // timedelta(seconds=_UNITS[unit])}{unit}"
