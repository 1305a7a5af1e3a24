"""One text: which part of it is a secret, and what stands there afterwards."""

import re
from typing import Any

import pytest

from services.redaction.presets import SECRET_PRESETS, SecretPattern
from services.redaction.text_masker import MaskedText, TextLimit, TextMasker, has_card_check_digit

LONG = TextLimit(maximum=1000)
# Such strings stand here in pieces, so that nobody takes them for real ones.
AWS, JWT, GITHUB = "AKIA" + "Q" * 16, "eyJ" + "a" * 10 + "." + "b" * 10 + "." + "c" * 10, "ghp_" + "d" * 36
STRIPE, SLACK, OPENAI, GOOGLE = "sk_" + "live_" + "e" * 20, "xoxb-" + "1" * 12, "sk-proj-" + "f" * 20, "AIza" + "g" * 35
SENDGRID, GITLAB, NPM = "SG." + "h" * 16 + "." + "i" * 16, "glpat-" + "j" * 20, "npm_" + "k" * 36
PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nMII=\n-----END RSA PRIVATE KEY-----"


def a_masker(*regexes: str, **changed: Any) -> TextMasker:
    return TextMasker([SecretPattern(name=f"p{number}", regex=each, **changed) for number, each in enumerate(regexes)])


def masked(masker: TextMasker, text: str, limit: TextLimit = LONG) -> str:
    return masker.mask(text.encode(), range(len(masker._searched)), limit).text.decode()


@pytest.mark.parametrize(
    ("preset", "text", "expected"),
    [
        ("keys", f"uses {AWS}.", "uses [redacted:keys]."),
        ("keys", f"a\n{PEM}\nb", "a\n[redacted:keys]\nb"),
        ("keys", f"cut {PEM[:60]}", "cut [redacted:keys]"),
        ("keys", f"{STRIPE} {OPENAI} {GOOGLE} {SENDGRID}", " ".join(["[redacted:keys]"] * 4)),
        ("keys", "AccountKey=" + "A" * 86 + "==;", "AccountKey=[redacted:keys];"),
        ("keys", "task-1234567890abcdef1234567890 AKIA123", "task-1234567890abcdef1234567890 AKIA123"),
        ("tokens", f"t={JWT}; u", "t=[redacted:tokens]; u"),
        ("tokens", f"{GITHUB} {SLACK} {GITLAB} {NPM}", " ".join(["[redacted:tokens]"] * 4)),
        ("tokens", "github_pat_" + "l" * 22, "[redacted:tokens]"),
        ("tokens", "at hooks.slack.com/services/T0/B0/" + "m" * 24, "at hooks.slack.com/services/[redacted:tokens]"),
        ("tokens", "Authorization: Basic dXNlcjpw", "Authorization: [redacted:tokens]"),
        ("tokens", '{"authorization":"Bearer abc"}', '{"authorization":"[redacted:tokens]"}'),
        ("tokens", "sent bearer abcdef0123456789= on", "sent bearer [redacted:tokens] on"),
        ("tokens", "the bearer of bad news", "the bearer of bad news"),
        ("cards", "card 4111 1111 1111 1111 123", "card [redacted:cards] 123"),
        ("cards", "n=5555-5555-5555-4444, 378282246310005", "n=[redacted:cards], [redacted:cards]"),
        ("cards", "4111111111111111 4242424242424242", "[redacted:cards] [redacted:cards]"),
        ("cards", "order 4234 4111 1111 1111 1111", "order 4234 [redacted:cards]"),
        ("cards", "36227206271667 4000000000000000006", "[redacted:cards] [redacted:cards]"),
        ("cards", "4111111111111112 0.4111111111111111 41111111111111111", None),
        ("cards", "at 1764324000000000000 id a4111111111111111 9111111111111111", None),
        ("emails", "by anna.smith+x@mail.example.com.", "by [redacted:emails]."),
        ("emails", "<jörg@müller.de>", "<[redacted:emails]>"),
        ("emails", "user='anna@example.com'", "user='[redacted:emails]'"),
        ("emails", "user@localhost, @name, a@b", None),
        ("passwords", "password=hunter2&x=1", "password=[redacted:passwords]&x=1"),
        ("passwords", 'DB_PASSWORD: "hun\\"ter 2" ok', 'DB_PASSWORD: "[redacted:passwords]" ok'),
        ("passwords", "{'api_key': 'a b', 'x': 1}", "{'api_key': '[redacted:passwords]', 'x': 1}"),
        ("passwords", r"{\"client_secret\":\"a b\",\"x\":1}", r"{\"client_secret\":\"[redacted:passwords]\",\"x\":1}"),
        ("passwords", "run --password hunter2 now", "run --password [redacted:passwords] now"),
        ("passwords", "postgres://shop:hun:ter2@db:5432/x", "postgres://shop:[redacted:passwords]@db:5432/x"),
        ("passwords", '{"token": "ab c"} secret=d', '{"token": "[redacted:passwords]"} secret=[redacted:passwords]'),
        ("passwords", "unexpected token: EOF", None),
        ("passwords", "the password was wrong; http://shop:80/a@b", None),
    ],
)
def test_what_presets_mask(preset: str, text: str, expected: str | None) -> None:
    masker = TextMasker(SECRET_PRESETS[preset].patterns)
    assert masked(masker, text) == (text if expected is None else expected)
    assert masked(masker, masked(masker, text)) == masked(masker, text)


def test_the_name_of_each_pattern_that_was_found_is_returned() -> None:
    masker = a_masker("a+", "b+", "c+")
    assert masker.mask(b"aabbc", [0, 1], LONG) == MaskedText(
        b"[redacted:p0][redacted:p1][redacted:p2]", frozenset({"p0", "p1", "p2"})
    )


def test_a_text_without_a_match_of_a_proposed_pattern_is_unchanged() -> None:
    assert a_masker("a+", "b+").mask(b"bb", [0], LONG) == MaskedText(b"bb", frozenset())


def test_only_the_group_is_masked_where_it_took_part() -> None:
    masker = a_masker("id=(?P<secret>[0-9]+)?x")
    assert masked(masker, "id=12x id=x") == "id=[redacted:p0]x [redacted:p0]"


def test_masks_are_borders() -> None:
    masker = a_masker("[a-z]+x", "(?P<secret>b)")
    assert masked(masker, "a[redacted:p1]x") == "a[redacted:p1]x"
    assert masked(masker, "redacted: bx") == "redacted: [redacted:p0]"


def test_what_begins_to_match_next_to_a_mask_is_masked_too() -> None:
    assert masked(a_masker("b+", "a$"), "ab ab") == "[redacted:p1][redacted:p0] [redacted:p1][redacted:p0]"


def test_a_part_in_which_matches_go_on_appearing_is_masked_as_a_whole() -> None:
    assert masked(a_masker("a$"), "b " + "a" * 100) == "[redacted:p0]" * 6
    # What no longer matches stays.
    assert masked(a_masker("[ab]$"), "caabab") == "c" + "[redacted:p0]" * 5


def test_a_number_without_its_check_digit_may_end_in_one_that_has_it() -> None:
    assert masked(a_masker("[0-9]{4}", has_check_digit=True), "1 1230 10019") == "1 [redacted:p0] 10019"
    assert masked(a_masker("[0-9]{4}", has_check_digit=True), "21230") == "2[redacted:p0]"
    # A change elsewhere does not make it one.
    assert masked(a_masker("[0-9]{4}", has_check_digit=True), "1234 1230") == "1234 [redacted:p0]"


@pytest.mark.parametrize(
    ("number", "has_it"), [("4111 1111-1111 1111", True), ("4111111111111112", False), ("79927398713", True)]
)
def test_the_check_digit_of_card_numbers(number: str, has_it: bool) -> None:  # noqa: FBT001
    assert has_card_check_digit(number.encode()) is has_it


def test_a_text_that_grows_beyond_its_limit_is_cut_between_characters() -> None:
    masker = a_masker("x")
    assert masked(masker, "xab", TextLimit(maximum=14)) == "[redacted:p0]a"
    assert masked(masker, "xéé", TextLimit(maximum=16)) == "[redacted:p0]é"
    assert masked(masker, "xéé", TextLimit(maximum=14, is_in_characters=True)) == "[redacted:p0]é"
    assert masked(masker, "abx", TextLimit(maximum=5)) == "ab"
    assert masked(masker, "abx", TextLimit(maximum=15)) == "ab[redacted:p0]"


def test_a_text_that_is_beyond_its_limit_does_not_grow() -> None:
    assert masked(a_masker("x"), "x" + "a" * 19, TextLimit(maximum=5)) == "[redacted:p0]" + "a" * 7


def test_what_is_left_of_a_cut_part_does_not_match_either() -> None:
    assert masked(a_masker("x", "a$"), "xab", TextLimit(maximum=14)) == "[redacted:p0]"


def test_a_mask_alone_is_known() -> None:
    masker = a_masker("x")
    assert [masker.is_mask(text) for text in (b"[redacted:p0]", b"[redacted:p1]", b"[redacted:p0] ")] == [
        True,
        False,
        False,
    ]
    assert re.fullmatch(r"\[redacted:p0\]", masked(masker, "x"))
