from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from services.rule_language.checking import Expression, check_condition, check_filter
from services.rule_language.diagnostics import ExpressionError

_PIECES = st.sampled_from(
    [
        *("level", "host", "attributes", "count", "avg", "ERROR", "nothing", "true", "null", "in", "has", "size"),
        *(">=", "==", "=", "&&", "&", "||", "!", "?", ":", "+", "-", "/", "%", ".", ",", "(", ")", "[", "]", "{", "}"),
        *("1", "2.5", "1u", "99999999999999999999", '"text"', '"open', "b'x'", r"'\q'", "\n", "// note", "é", "\x00"),
        *("matches", "contains", "exists(key, ", ".matches('(')", "attributes.a", 'attributes["a"]', "@", "$", "`a`"),
    ]
)
_texts = (
    st.text(max_size=20) | st.lists(_PIECES, max_size=12).map(" ".join) | st.lists(_PIECES, max_size=8).map("".join)
)


@settings(max_examples=100, deadline=None)
@given(_texts)
def test_any_text_is_allowed_or_refused_with_a_place_in_it(text: str) -> None:
    for refused in filter(None, (refusal(check_filter, text), refusal(check_condition, text))):
        lines = text.split("\n")
        assert 1 <= refused.line <= len(lines)
        assert 1 <= refused.column <= len(lines[refused.line - 1]) + 1
        assert refused.description


def refusal(check: Callable[[str], Expression], text: str) -> ExpressionError | None:
    try:
        check(text)
    except ExpressionError as error:
        return error
    return None
