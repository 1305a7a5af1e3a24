"""The fenced examples of the pages: command lines, calls over REST, and files."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from google.api import annotations_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from services.contract.public_services import PUBLIC_SERVICES

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What the shell puts in, and where output goes.
_RAW = frozenset({"google.api.HttpBody"})
_SUBSTITUTED = re.compile(r"\$\([^)]*\)|\$\w+")


def blocks(page: Path, language: str) -> list[str]:
    """Return the examples of a page in a language."""
    return [text for found, text in _FENCED.findall(page.read_text()) if found == language]


def commands(page: Path, program: str) -> list[list[str]]:
    """Return the words of each command line of a page that begins with this program, without it."""
    lines = (words for text in blocks(page, "sh") for words in _lines(text))
    return [words[1:] for words in lines if words and words[0] == program]


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a script, up to a pipe; one goes on until its quotes are closed."""
    waiting = ""
    for line in text.splitlines(keepends=True):
        waiting += line
        if line.endswith("\\\n"):
            continue
        try:
            words = shlex.split(waiting.replace("\\\n", " "), comments=True)
        except ValueError:
            continue
        waiting = ""
        ends = [words.index(sign) for sign in ("|", ">") if sign in words]
        yield words[: min(ends, default=len(words))]
    assert not waiting, f"not closed: {waiting}"


@dataclass(frozen=True, slots=True)
class RestCall:
    """A call over REST, as curl makes it."""

    verb: str
    url: str
    body: str | None

    @classmethod
    def of(cls, words: list[str]) -> "RestCall":
        """Return the call of a command line of curl. Raises ValueError for an option that no example needs."""
        verb, url, body, left = "", "", None, iter(words)
        for word in left:
            match word:
                case "-d":
                    body = next(left)
                case "-X":
                    verb = next(left).lower()
                case "-H" | "--cacert":
                    next(left)
                case "-s" | "-N":
                    pass
                case _ if word.startswith("-") or url:
                    raise ValueError(f"unknown option {word}")
                case _:
                    url = _SUBSTITUTED.sub("x", word)
        return cls(verb or ("get" if body is None else "post"), url, body and _SUBSTITUTED.sub("x", body))

    def request(self) -> Message:
        """Return the request of the rpc that takes it, without the body where that is a file. Raises ValueError."""
        parts = urlsplit(self.url)
        method, variables = self._method(parts.path)
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        body: Any = None if self.body is None else {} if self.body.startswith("@") else json.loads(self.body)
        whole: dict[str, Any] = dict(variables)
        for name, text in parse_qsl(parts.query, strict_parsing=True) if parts.query else ():
            field = next((each for each in method.input_type.fields if each.json_name == name), None)
            if field is None:
                raise ValueError(f"{method.full_name} has no parameter {name}")
            value = {"true": True, "false": False}.get(text, text)
            whole[name] = [*whole.get(name, []), value] if field.is_repeated else value
        if rule.body == "*":
            whole |= body
        elif rule.body:
            whole[rule.body] = body
        elif body is not None:
            raise ValueError(f"{method.full_name} takes no body")
        if any(field.message_type and field.message_type.full_name in _RAW for field in method.input_type.fields):
            # Events are not read as messages.
            return message_factory.GetMessageClass(method.input_type)()
        try:
            return json_format.ParseDict(whole, message_factory.GetMessageClass(method.input_type)())
        except json_format.ParseError as error:
            raise ValueError(str(error)) from None

    def _method(self, path: str) -> tuple[MethodDescriptor, dict[str, str]]:
        for method in _methods():
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            template = getattr(rule, self.verb)
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(template))
            if template and (found := re.fullmatch(pattern, path)):
                return method, {name: unquote(text) for name, text in found.groupdict().items()}
        raise ValueError(f"no rpc takes {self.verb.upper()} {path}")


def _methods() -> Iterator[MethodDescriptor]:
    pool = descriptor_pool.Default()
    for name in PUBLIC_SERVICES:
        if name.startswith("tocsin."):
            yield from pool.FindServiceByName(name).methods
