"""Reads the fields of one channel in a routes file.

A secret is in the file only as `${NAME}` (an environment variable, or the file whose path is in the variable
NAME_FILE), or in another file whose path is under `<field>_file`. Other values may contain `${NAME}` and
`${NAME:-default}` anywhere.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from services.domain.found_values import expected
from services.notifier.core.channels.addresses import may_reach, refusal, written_reach

ReportProblem = Callable[[str], None]

# In the name of a variable: the path of a file that holds the value.
_FILE_SUFFIX = "_FILE"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SHARED = frozenset({"kind", "fallback", "workers", "timeout"})


@dataclass(frozen=True, slots=True)
class References:
    """What references lead to: environment variables, and files by path (OSError when one cannot be read)."""

    environ: Mapping[str, str] = field(repr=False)
    read_file: Callable[[str], str]

    def variable(self, name: str) -> str:
        """Return a variable, or what is in the file that NAME_FILE names; the empty string when neither is set.

        Raises ValueError with a text that follows the name.
        """
        value, path = self.environ.get(name, ""), self.environ.get(name + _FILE_SUFFIX, "")
        if value and path:
            raise ValueError(f"which is set beside {name}{_FILE_SUFFIX}; set one of them")
        if not path:
            return value
        try:
            content = self.read_file(path).strip()
        except (OSError, UnicodeError):
            raise ValueError(f"but the file of {name}{_FILE_SUFFIX} cannot be read") from None
        if not content:
            raise ValueError(f"but the file of {name}{_FILE_SUFFIX} is empty")
        return content


@dataclass(slots=True)
class ChannelFields:
    """The fields of one channel. A method reports what is wrong with its field, and notes that the field is known."""

    place: str
    body: Mapping[str, object]
    references: References
    report: ReportProblem
    known: set[str] = field(default_factory=lambda: set(_SHARED))
    problem_count: int = 0

    def refuse(self, name: str, why: str) -> str:
        """Report a problem; the empty string takes the place of the value."""
        self.report(f"{self.place}.{name}: {why}")
        self.problem_count += 1
        return ""

    def string(self, name: str, default: str | None = None) -> str:
        """Return a value that may be shown; required when there is no default."""
        self.known.add(name)
        value = self.body.get(name, default)
        if value is None or value == "":
            return default if default is not None else self.refuse(name, "is required")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return self.refuse(name, expected("a string", value))
        return self._resolve(name, str(value))

    def secret(self, name: str) -> str:
        """Return a value that is never shown, and never in the file itself."""
        self.known |= {name, f"{name}_file"}
        if f"{name}_file" in self.body:
            return self._read_file(f"{name}_file")
        value = self.body.get(name)
        if value is None:
            return self.refuse(name, f"is required: a reference ${{NAME}}, or {name}_file with a path")
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2] is not None:
            return self.refuse(name, f"must be a reference ${{NAME}}, or {name}_file a path: no secret in this file")
        return self._resolve(name, f"${{{match[1]}}}")

    def optional_secret(self, name: str) -> str:
        """Return a secret; the empty string when the field is absent, or is ${NAME:-} and the variable is not set."""
        self.known |= {name, f"{name}_file"}
        value = self.body.get(name)
        if f"{name}_file" not in self.body:
            if value is None or value == "":
                return ""
            match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if match is not None and match[2] == "":
                return self._variable(name, match[1])
        return self.secret(name)

    def url(self, name: str, value: str, *, allow_private: bool) -> str:
        """Return the value when it is an address to post to that the channel may reach, as far as it is written."""
        if not value:
            return value
        try:
            parts = urlsplit(value)
            is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            return self.refuse(name, "must be an http or https address")
        return self.host(name, parts.hostname or "", allow_private=allow_private) and value

    def host(self, name: str, host: str, *, allow_private: bool) -> str:
        """Return a host when the channel may reach it, as far as it is written; names are looked up at each call."""
        reach = written_reach(host)
        return host if may_reach(reach, allow_private=allow_private) else self.refuse(name, refusal(reach))

    def number(self, name: str, default: float, *, maximum: float) -> float:
        """Return a number above 0 and at most `maximum`."""
        text = self.string(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= maximum:
            # As it is written: what a variable holds is not shown.
            self.refuse(name, expected(f"a number above 0 and at most {maximum:g}", self.body.get(name)))
            return default
        return value

    def strings(self, name: str, *, required: bool) -> tuple[str, ...]:
        """Return a list of strings; in the file it is a list, or one string with commas."""
        self.known.add(name)
        value = self.body.get(name)
        if value is None and not required:
            return ()
        problems_before = self.problem_count
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) < len(items):
            self.refuse(name, expected("a string or a list of strings", value))
            return ()
        parts = (part.strip() for text in texts for part in self._resolve(name, text).split(","))
        strings = tuple(part for part in parts if part)
        if required and not strings and self.problem_count == problems_before:
            self.refuse(name, "is required")
        return strings

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Return true or false; the default when the field is absent."""
        value = self.body.get(name)
        text = str(value) if isinstance(value, bool) else self.string(name, str(default))
        self.known.add(name)
        if text.lower() not in {"true", "false"}:
            self.refuse(name, expected("true or false", value))
        return text.lower() == "true"

    def _read_file(self, name: str) -> str:
        path = self.string(name)
        try:
            content = self.references.read_file(path).strip() if path else ""
        except (OSError, UnicodeError):
            return self.refuse(name, "cannot be read")
        return content or self.refuse(name, "is empty")

    def _variable(self, name: str, variable: str) -> str:
        try:
            return self.references.variable(variable)
        except ValueError as error:
            return self.refuse(name, f"refers to {variable}, {error}")

    def _resolve(self, name: str, text: str) -> str:
        def value_of(match: re.Match[str]) -> str:
            problems = self.problem_count
            value = self._variable(name, match[1]) or match[2]
            if value is None and self.problem_count == problems:
                return self.refuse(name, f"refers to {match[1]}, which is not set")
            return value or ""

        return _REFERENCE.sub(value_of, text)
