import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.redaction.named_texts import NamedText
from services.redaction.presets import SECRET_PRESETS, SecretPattern, chosen_patterns
from services.redaction.text_masker import TextLimit, TextMasker
from services.redaction.text_redactor import TextRedactor

OWN = (SecretPattern(name="ids", regex=r"\bC[0-9]{3}\b"),)
EVERYTHING = TextRedactor(list(SECRET_PRESETS), OWN)
MASKER = TextMasker(chosen_patterns(list(SECRET_PRESETS), OWN))


@pytest.mark.parametrize(
    ("text", "key", "masked", "name"),
    [
        ("of C123, ü", "", "of [redacted:ids], ü", "ids"),
        ("by ann@example.com", "note", "by [redacted:emails]", "emails"),
        ("hunter2", "db.password", "[redacted:passwords]", "passwords"),
        ("C123", "db.password", "[redacted:passwords]", "passwords"),
    ],
)
def test_secrets_are_masked_by_pattern_and_by_key(text: str, key: str, masked: str, name: str) -> None:
    # Others around it, with line breaks, stay as they are.
    texts = [NamedText("one\ntwo"), NamedText(text, key), NamedText("")]
    redacted = EVERYTHING.redact(texts)
    assert redacted.texts == ["one\ntwo", masked, ""]
    assert redacted.value_counts == {name: 1}


@pytest.mark.parametrize("texts", [[], [NamedText("")], [NamedText("plain"), NamedText("", "password")]])
def test_nothing_is_counted_where_nothing_is_masked(texts: list[NamedText]) -> None:
    redacted = EVERYTHING.redact(texts)
    assert redacted.texts == [each.text for each in texts]
    assert redacted.value_counts == {}


def test_a_mask_is_not_masked_again() -> None:
    texts = [NamedText("[redacted:keys]", "password"), NamedText("a [redacted:ids] b")]
    assert EVERYTHING.redact(texts).value_counts == {}


@given(
    st.lists(st.lists(st.sampled_from(["C123", "C1234", "password=x", " ", "\n", "a@b.cd", "\0", "é"])).map("".join))
)
def test_one_scan_of_all_texts_finds_what_a_search_of_each_finds(texts: list[str]) -> None:
    numbers = range(len(chosen_patterns(list(SECRET_PRESETS), OWN)))
    expected = [MASKER.mask(text.encode(), numbers, TextLimit(maximum=1000)).text.decode() for text in texts]
    assert EVERYTHING.redact([NamedText(text) for text in texts]).texts == expected
