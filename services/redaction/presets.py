"""What secrets look like: the patterns that have a name already."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# The group of a pattern that is masked; without it, all that the pattern matches is.
SECRET_GROUP: Final = "secret"  # noqa: S105  (a name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPattern:
    """A regular expression of RE2, and the name of what it matches."""

    name: str
    regex: str
    has_check_digit: bool = False
    """Whether only digits are a secret that have the check digit of card numbers (Luhn)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPreset:
    """What one name of `INGEST_REDACT` masks."""

    patterns: tuple[SecretPattern, ...]
    key_regex: str = ""
    """Attributes whose key has such an end are masked, whatever their value is; none when it is empty."""


_SENSITIVE_NAMES: Final = (
    "(?:passw(?:or)?d|passphrase|pwd|(?:api|app|client|consumer|shared)[_-]?secret|secret[_-]?(?:access[_-]?)?key"
    "|(?:access|api|private)[_-]?key|(?:access|api|auth|id|refresh|session)[_-]?token)"
)
# A name, perhaps in quotes, also in those of JSON within JSON, and what stands between it and its value.
# What follows `token:` in prose is none.
_NAMED: Final = (
    rf"(?i)(?:{_SENSITIVE_NAMES}(?:\\?[\"'])?\s{{0,4}}[=:]|(?:secret|token)(?:\s{{0,4}}=|\\?[\"']\s{{0,4}}[=:]))"
    r"\s{0,4}"
)
_PEM_NAME: Final = "[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
# Not within another number, and not the digits behind a decimal point.
_CARD_START, _CARD_END = "(?:^|[^0-9A-Za-z.])", "(?:[^0-9A-Za-z]|$)"


def _preset(name: str, *regexes: str, key_regex: str = "", has_check_digit: bool = False) -> SecretPreset:
    patterns = (SecretPattern(name=name, regex=regex, has_check_digit=has_check_digit) for regex in regexes)
    return SecretPreset(patterns=tuple(patterns), key_regex=key_regex)


def _card(digits: str) -> str:
    return f"{_CARD_START}(?P<{SECRET_GROUP}>{digits}){_CARD_END}"


SECRET_PRESETS: Final[Mapping[str, SecretPreset]] = {
    "keys": _preset(
        "keys",
        rf"-----BEGIN {_PEM_NAME}(?:-?[^-])*(?:-----END {_PEM_NAME})?",
        "(?:AKIA|ASIA)[0-9A-Z]{16}",
        "AIza[0-9A-Za-z_-]{35}",
        "[rs]k_(?:live|test)_[0-9A-Za-z]{10,}",
        r"\bsk-[0-9A-Za-z_-]{20,}",
        r"SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}",
        "AccountKey=(?P<secret>[0-9A-Za-z+/]{40,}={0,2})",
    ),
    "tokens": _preset(
        "tokens",
        r"eyJ[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]{8,}){1,4}\.?",
        "gh[oprsu]_[0-9A-Za-z]{36,}",
        "github_pat_[0-9A-Za-z_]{22,}",
        "glpat-[0-9A-Za-z_-]{20,}",
        "xox[a-z]-[0-9A-Za-z-]{10,}",
        "npm_[0-9A-Za-z]{36}",
        r"hooks\.slack\.com/services/(?P<secret>[0-9A-Za-z/]{20,})",
        # With its scheme, which would look like a secret once the other is masked.
        r"(?i)authorization\\?[\"']?\s{0,4}[=:]\s{0,4}\\?[\"']?"
        r"(?P<secret>(?:(?:basic|bearer|digest|token)\s{1,4})?[^\s\"'\\,;]+)",
        r"(?i)\bbearer\s{1,4}(?P<secret>[0-9A-Za-z._~+/-]{16,}={0,2})",
        key_regex="(?i)(?:authorization|cookie)$",
    ),
    "cards": _preset(
        "cards",
        _card("(?:[456][0-9]|2[2-7]|35)[0-9]{2}(?:[ -]?[0-9]{4}){3}"),
        _card("[46][0-9]{3}(?:[ -]?[0-9]{4}){3}[ -]?[0-9]{3}"),
        _card("3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}"),
        _card("3[0689][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{4}"),
        has_check_digit=True,
    ),
    "passwords": _preset(
        "passwords",
        rf"{_NAMED}\"(?P<secret>(?:[^\"\\]|\\[^\n])+)",
        rf"{_NAMED}\\\"(?P<secret>(?:[^\"\\]|\\[^\"])+)",
        rf"{_NAMED}'(?P<secret>[^']+)",
        rf"{_NAMED}(?P<secret>[^\s\"'\\,;&()<>\[\]{{}}]+)",
        rf"(?i)--{_SENSITIVE_NAMES}\s{{1,4}}(?P<secret>[^\s\"']+)",
        r"(?i)[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']*:(?P<secret>[^\s/@\"']+)@",
        key_regex=f"(?i)(?:{_SENSITIVE_NAMES}|secret|token)$",
    ),
    "emails": _preset(
        "emails",
        r"[0-9A-Za-z\x{c0}-\x{1fff}._%+-]+@[0-9A-Za-z\x{c0}-\x{1fff}-]+"
        r"(?:\.[0-9A-Za-z\x{c0}-\x{1fff}-]+)*\.[A-Za-z\x{c0}-\x{1fff}]{2,}",
    ),
}


def chosen_patterns(presets: Collection[str], own: Sequence[SecretPattern]) -> list[SecretPattern]:
    """Return the patterns of the presets with these names, and those of one's own."""
    return [*(pattern for name in _in_order(presets) for pattern in SECRET_PRESETS[name].patterns), *own]


def chosen_keys(presets: Collection[str]) -> list[tuple[str, str]]:
    """Return the name of each such preset by which a value is masked because of its key, and the keys' regex."""
    return [(name, SECRET_PRESETS[name].key_regex) for name in _in_order(presets) if SECRET_PRESETS[name].key_regex]


def _in_order(presets: Collection[str]) -> list[str]:
    return [name for name in SECRET_PRESETS if name in presets]
