"""Which fields an update means."""

from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.rule_edits import CHANGEABLE_FIELDS, SERVER_FIELDS, UpdateMaskError, masked_fields
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def test_every_field_of_the_contract_is_either_changeable_or_the_servers() -> None:
    assert set(AlertRule.DESCRIPTOR.fields_by_name) == CHANGEABLE_FIELDS | SERVER_FIELDS | {"etag"}


@pytest.mark.parametrize(
    ("asked", "present", "meant"),
    [
        pytest.param([], ["name", "id", "etag"], {"name"}, id="what is set and may be changed"),
        pytest.param([], ["etag"], set(), id="nothing"),
        pytest.param(["*"], [], None, id="everything"),
        pytest.param(["groupBy", "window_minutes"], [], {"group_by", "window_minutes"}, id="either spelling"),
        pytest.param(["name", "etag"], [], {"name"}, id="the etag is a condition"),
    ],
)
def test_what_a_mask_means(asked: list[str], present: list[str], meant: AbstractSet[str] | None) -> None:
    assert masked_fields(asked, present) == meant


def test_every_wrong_path_is_named_as_it_was_written() -> None:
    with pytest.raises(UpdateMaskError) as wrong:
        masked_fields(["name", "createTime", "nonsense", "*"], [])
    assert wrong.value.paths == {
        "createTime": "is set by the server",
        "nonsense": "is not a field of an alert rule",
        "*": "must stand alone",
    }
    assert "nonsense" in str(wrong.value)


@given(st.lists(st.sampled_from(sorted(CHANGEABLE_FIELDS))))
def test_a_mask_of_fields_means_these_fields(paths: list[str]) -> None:
    assert masked_fields(paths, []) == frozenset(paths)
