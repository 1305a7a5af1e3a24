"""The texts of keys."""

import hashlib

import pytest

from services.access.keys import KEY_CHANCE, make_key, read_key


def test_a_new_key_is_read_as_what_is_stored_of_it() -> None:
    text, key_id, secret_hash = make_key(bytes(range(KEY_CHANCE)))

    assert text == "tocsin_aaaqeayeauda_CAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJic"
    assert read_key(text) == (key_id, secret_hash)
    assert secret_hash == hashlib.sha256(text.rpartition("a_")[2].encode()).digest()


def test_all_of_the_chance_is_used() -> None:
    texts = {make_key(bytes([number == place for place in range(KEY_CHANCE)]))[0] for number in range(KEY_CHANCE)}
    # The id has 60 bits of the first 64.
    assert len(texts) == KEY_CHANCE


@pytest.mark.parametrize("text", ["", "tocsin_", "tocsin_aaaqeayeauda_short", "other_" + "a" * 12 + "_" + "a" * 43])
def test_other_texts_are_no_keys(text: str) -> None:
    assert read_key(text) is None
