"""Masks the secrets in a few texts, such as those of a notification, in one scan."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

import pyarrow as pa
import re2

from services.redaction.named_texts import NamedText, RedactedTexts
from services.redaction.presets import SecretPattern, chosen_keys, chosen_patterns
from services.redaction.secret_scanner import SecretScanner
from services.redaction.text_masker import TextLimit, TextMasker, mask_of_name

# Who shows a text cuts it.
_UNLIMITED: Final = TextLimit(maximum=2**31)


class TextRedactor:
    """Masks what presets and patterns name, for one thread at a time."""

    def __init__(self, presets: Collection[str], patterns: Sequence[SecretPattern]) -> None:
        """Compile all patterns, of which there is at least one; that takes some milliseconds."""
        everything = chosen_patterns(presets, patterns)
        self._keys: list[tuple[str, Any]] = [(name, re2.compile(regex)) for name, regex in chosen_keys(presets)]
        self._scanner = SecretScanner(everything)
        self._masker = TextMasker(everything)

    def redact(self, texts: Sequence[NamedText]) -> RedactedTexts:
        """Mask the secrets in the texts, and those that are secrets because of their keys."""
        found = [each.text for each in texts]
        proposed_by_text = self._scanner.scan(pa.array(found, pa.string()))
        counts: Counter[str] = Counter()
        by_key = self._named_by_key(texts)
        for number, name in by_key.items():
            if found[number] and not self._masker.is_mask(found[number].encode()):
                found[number] = mask_of_name(name).decode()
                counts[name] += 1
        for number, proposed in proposed_by_text.items():
            if number not in by_key:
                masked = self._masker.mask(found[number].encode(), proposed, _UNLIMITED)
                if masked.names:
                    found[number] = masked.text.decode()
                    counts.update(masked.names)
        return RedactedTexts(texts=found, value_counts=counts)

    def _named_by_key(self, texts: Sequence[NamedText]) -> dict[int, str]:
        """Return the name of what a text is masked as because of its key."""
        # Samples have the same keys again and again.
        names = {key: self._name_of(key) for key in {each.key for each in texts if each.key}}
        found = ((number, names.get(each.key)) for number, each in enumerate(texts))
        return {number: name for number, name in found if name is not None}

    def _name_of(self, key: str) -> str | None:
        return next((name for name, regex in self._keys if regex.search(key)), None)
