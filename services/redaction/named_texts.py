"""Texts that secrets are masked in, apart from what masks: who masks nothing need not load Hyperscan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class NamedText:
    """A text, and the key under which it stands; empty where it has none."""

    text: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedTexts:
    """The same texts without secrets, in the same order."""

    texts: Sequence[str]
    value_counts: Mapping[str, int]
    """In how many texts something with each name was masked; empty when all texts are as they were."""


RedactTexts: TypeAlias = Callable[[Sequence[NamedText]], RedactedTexts]
