"""Reads one channel of a routes file.

A secret stands in the file only as `${NAME}` (an environment variable) or under `<field>_file` (a path whose content it
is). Other values may hold `${NAME}` and `${NAME:-default}` anywhere.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast
from urllib.parse import urlsplit

from services.notifier.core.channel import (
    ChannelKind,
    ChannelSpec,
    EmailSettings,
    PagerDutySettings,
    SlackSettings,
    WebhookSettings,
)

Report = Callable[[str], None]
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SHARED = frozenset({"kind", "fallback", "workers", "timeout"})
_MAX_WORKERS = 64
_MAX_TIMEOUT = 60.0
_MAX_PORT = 65535
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"


@dataclass(frozen=True, slots=True)
class World:
    """Where references lead: environment variables, and files by path (OSError when one cannot be read)."""

    environ: Mapping[str, str] = field(repr=False)
    read: Callable[[str], str]


@dataclass(slots=True)
class Fields:
    """The fields of one channel, being read; remembers what is wrong and what was asked for."""

    place: str
    body: Mapping[str, object]
    world: World
    report: Report
    known: set[str] = field(default_factory=lambda: set(_SHARED))
    mistakes: int = 0

    def wrong(self, name: str, why: str) -> str:
        """Note a problem; the empty text stands for the value."""
        self.report(f"{self.place}.{name} {why}")
        self.mistakes += 1
        return ""

    def text(self, name: str, default: str | None = None) -> str:
        """A value that may be shown; required without default."""
        self.known.add(name)
        value = self.body.get(name, default)
        if value is None or value == "":
            return default if default is not None else self.wrong(name, "is required")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return self.wrong(name, "must be a text")
        return self._resolved(name, str(value))

    def secret(self, name: str) -> str:
        """A value that is never shown, and never stands in the file."""
        self.known |= {name, f"{name}_file"}
        if f"{name}_file" in self.body:
            return self._content(f"{name}_file")
        value = self.body.get(name)
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2] is not None:
            return self.wrong(name, f"must be a reference ${{NAME}}, or {name}_file a path: no secret in this file")
        return self._resolved(name, f"${{{match[1]}}}")

    def url(self, name: str, value: str) -> str:
        """The value, when it is an address that can be posted to."""
        if not value:
            return value
        try:
            parts = urlsplit(value)
            fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        return value if fits else self.wrong(name, "must be an http or https address")

    def number(self, name: str, default: float, *, most: float) -> float:
        """A number above 0 and at most `most`."""
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            self.wrong(name, f"must be a number above 0 and at most {most:g}")
            return default
        return value

    def words(self, name: str, *, required: bool) -> tuple[str, ...]:
        """A list of words, or one word, or words with commas between them."""
        self.known.add(name)
        value = self.body.get(name)
        if value is None and not required:
            return ()
        before = self.mistakes
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) < len(items):
            self.wrong(name, "must be a word or a list of words")
            return ()
        split = [word.strip() for text in texts for word in self._resolved(name, text).split(",")]
        words = tuple(word for word in split if word)
        if required and not words and self.mistakes == before:
            self.wrong(name, "is required")
        return words

    def flag(self, name: str) -> bool:
        """True or false; false when absent."""
        text = self.text(name, "false") if not isinstance(self.body.get(name), bool) else str(self.body[name])
        self.known.add(name)
        if text.lower() not in {"true", "false"}:
            self.wrong(name, "must be true or false")
        return text.lower() == "true"

    def _content(self, name: str) -> str:
        path = self.text(name)
        try:
            content = self.world.read(path).strip() if path else ""
        except (OSError, UnicodeError):
            return self.wrong(name, "cannot be read")
        return content or self.wrong(name, "is empty")

    def _resolved(self, name: str, value: str) -> str:
        def one(match: re.Match[str]) -> str:
            found = self.world.environ.get(match[1]) or match[2]
            return self.wrong(name, f"refers to {match[1]}, which is not set") if found is None else found

        return _REFERENCE.sub(one, value)


def channel_of(name: str, body: Mapping[str, object], world: World, report: Report) -> ChannelSpec | None:
    """One channel; None when something was reported."""
    fields = Fields(place=f"channels.{name}", body=body, world=world, report=report)
    if _NAME.fullmatch(name) is None:
        report(f"channels: {name!r} must be lower-case letters, digits, - and _, at most 63")
        fields.mistakes += 1
    read = _KINDS.get(str(body.get("kind")))
    if read is None:
        fields.wrong("kind", f"must be one of {', '.join(_KINDS)}")
        return None
    kind = read(fields)
    spec = ChannelSpec(
        name=name,
        kind=kind,
        fallback=fields.words("fallback", required=False),
        workers=int(fields.number("workers", 8, most=_MAX_WORKERS)) or 1,
        timeout=timedelta(seconds=fields.number("timeout", 5, most=_MAX_TIMEOUT)),
    )
    for unknown in sorted(body.keys() - fields.known):
        fields.wrong(unknown, f"is not known for kind {body['kind']}")
    return spec if not fields.mistakes else None


def _slack(fields: Fields) -> ChannelKind:
    return SlackSettings(url=fields.url("url", fields.secret("url")))


def _pagerduty(fields: Fields) -> ChannelKind:
    return PagerDutySettings(
        url=fields.url("url", fields.text("url", _PAGERDUTY)), routing_key=fields.secret("routing_key")
    )


def _webhook(fields: Fields) -> ChannelKind:
    return WebhookSettings(
        url=fields.url("url", fields.text("url")),
        signing_key=fields.secret("signing_key"),
        allow_private=fields.flag("allow_private"),
    )


def _email(fields: Fields) -> ChannelKind:
    settings = EmailSettings(
        host=fields.text("host"),
        port=int(fields.number("port", 587, most=_MAX_PORT)),
        username=fields.secret("username"),
        password=fields.secret("password"),
        sender=fields.text("from"),
        recipients=fields.words("to", required=True),
        ca_file=fields.text("ca_file", ""),
    )
    for name, addresses in (("from", (settings.sender,)), ("to", settings.recipients)):
        if not all(_is_address(address) for address in addresses if address):
            fields.wrong(name, "must be mail addresses, name@host")
    return settings


def _is_address(text: str) -> bool:
    local, at, host = text.rpartition("@")
    return (
        bool(local and at and host) and text.isascii() and text.isprintable() and not set(text) & set(' <>,;:"()[]\\')
    )


_KINDS: dict[str, Callable[[Fields], ChannelKind]] = {
    "slack": _slack,
    "pagerduty": _pagerduty,
    "webhook": _webhook,
    "email": _email,
}
