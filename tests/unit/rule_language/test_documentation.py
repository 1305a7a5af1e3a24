import re
from pathlib import Path

import pytest

from services.rule_language.checking import check_condition, check_filter

DOCUMENT = (Path(__file__).parents[3] / "docs" / "rules.md").read_text()


def examples(kind: str) -> list[str]:
    return [line for block in re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("text", examples("filter"))
def test_each_documented_filter_is_allowed(text: str) -> None:
    check_filter(text)


@pytest.mark.parametrize("text", examples("condition"))
def test_each_documented_condition_is_allowed(text: str) -> None:
    check_condition(text)
