"""Which fields an update means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manager.core.commands.masks import CHANGEABLE, SET_BY_SERVER, MaskError, fields_meant
from tocsin.rules.v1.alert_rule_pb2 import AlertRule


def test_every_field_of_the_contract_is_either_changeable_or_the_servers() -> None:
    assert set(AlertRule.DESCRIPTOR.fields_by_name) == CHANGEABLE | SET_BY_SERVER | {"etag"}


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
def test_what_a_mask_means(asked: list[str], present: list[str], meant: set[str] | None) -> None:
    assert fields_meant(asked, present) == meant


def test_every_wrong_path_is_named_as_it_was_written() -> None:
    with pytest.raises(MaskError) as wrong:
        fields_meant(["name", "createTime", "nonsense", "*"], [])
    assert wrong.value.paths == {
        "createTime": "is set by the server",
        "nonsense": "is no field of an alert rule",
        "*": "stands alone or not at all",
    }
    assert "nonsense" in str(wrong.value)


@given(st.lists(st.sampled_from(sorted(CHANGEABLE))))
def test_a_mask_of_fields_means_these_fields(paths: list[str]) -> None:
    assert fields_meant(paths, []) == set(paths)
