import re

import pytest

from services.rule_language.checking import MAX_CHARACTERS, check_condition, check_filter
from services.rule_language.diagnostics import ExpressionError, explain
from services.rule_language.environment import event_language

EVENT = {
    "service": "payment-service",
    "level": 5,
    "message": "Connection refused: zwölf",
    "host": "pod-1",
    "trace_id": "",
    "attributes": {"region": "eu", "http.method": "GET", "size": "12"},
}
ANSWERED = EVENT | {"status_code": 504, "response_time": 2500.5}


@pytest.mark.parametrize(
    "text",
    [
        'level >= ERROR && service == "payment-service" && message.matches("timeout|refused")',
        "level == ERROR && level > WARN && level < FATAL && TRACE < DEBUG && DEBUG < INFO",
        'message.contains("zwölf") && message.startsWith("Conn") && message.endsWith("lf")',
        "size(message) == 25 && message.size() == 25",
        'service in ["a", "payment-service"] && level in [4, 5] && !(level in [])',
        'attributes.region == "eu" && attributes["http.method"] == "GET"',
        'has(attributes.region) && !has(attributes.nothing) && "size" in attributes',
        "int(attributes.size) + 1 == 13 && double(attributes.size) / 5 == 2.4",
        '(level > WARN ? host : service) == "pod-1"',
        'attributes.exists(key, key.startsWith("http")) && attributes.all(key, attributes[key] != "")',
        "level / 2 == 2 && level % 2 == 1 && -level == -5",
        "level * 1.5 == 7.5 && 1.5 * level == 7.5 && level - 0.5 == 4.5 && level + 1.5 == 6.5",
        "level / 0.0 > 1e308 && -level / 0.0 < -1e308 && !(0 / 0.0 == 0 / 0.0)",
    ],
)
def test_what_a_filter_may_contain(text: str) -> None:
    assert check_filter(text).evaluate(EVENT) is True


@pytest.mark.parametrize(
    "text",
    [
        "response_time > 2000",
        "response_time > 2000.0",
        "response_time >= 2500 && response_time != 2500",
        "status_code >= 500",
        "status_code > 503.5",
        "status_code == 504.0",
        "status_code in [503.0, 504.0]",
        "response_time in [2500.5]",
        "status_code + 0.5 < response_time",
    ],
)
def test_integers_and_doubles_meet(text: str) -> None:
    assert check_filter(text).evaluate(ANSWERED) is True


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param("status_code >= 500", None, id="an absent field"),
        pytest.param("!(status_code >= 500)", None, id="not absent is absent"),
        pytest.param("status_code == status_code", None, id="absent equals nothing, not even itself"),
        pytest.param("status_code >= 500 || level == ERROR", True, id="absent or true"),
        pytest.param("level == ERROR || status_code >= 500", True, id="true or absent"),
        pytest.param("status_code >= 500 || level != ERROR", None, id="absent or false"),
        pytest.param("status_code >= 500 && level != ERROR", False, id="absent and false"),
        pytest.param("status_code >= 500 && level == ERROR", None, id="absent and true"),
        pytest.param("status_code >= 500 ? true : true", None, id="a choice by what is absent"),
        pytest.param("true ? level == ERROR : status_code > 1", True, id="an absent branch that is not taken"),
        pytest.param('attributes.nothing == ""', None, id="an absent attribute is not empty"),
        pytest.param('attributes["nothing"] != "x"', None, id="an absent attribute differs from nothing"),
        pytest.param("status_code in []", None, id="absent is in no list"),
        pytest.param("level in [status_code, 5]", None, id="a list with something absent is absent"),
        pytest.param("1 / 0 == 1", None, id="division by zero"),
        pytest.param("9223372036854775807 + level > 0", None, id="beyond 64 bits"),
        pytest.param("int(attributes.region) == 1", None, id="a string that is no number"),
    ],
)
def test_what_depends_on_something_absent_is_absent(text: str, outcome: object) -> None:
    assert check_filter(text).evaluate(EVENT) is outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("count > threshold", True),
        ("rate > 0.05 && total > 100", True),
        ("count > total * 0.05", True),
        ("sum / count == 2.0", True),
        ("avg > 1", None),
        ("!(max > 1)", None),
        ("min < 1 || count > 10", True),
    ],
)
def test_conditions_judge_the_numbers_of_a_window(text: str, outcome: object) -> None:
    window = {"count": 101, "total": 500, "rate": 0.202, "sum": 202.0, "threshold": 100.0}
    assert check_condition(text).evaluate(window) is outcome


@pytest.mark.parametrize(
    ("text", "place", "description", "expected"),
    [
        pytest.param('msg == "a"', (1, 1), 'unknown name "msg"', "message", id="an unknown name"),
        pytest.param('level > 1 &&\n  "é" == hots', (2, 10), 'unknown name "hots"', "host", id="on the second line"),
        pytest.param("level == ERR0R", (1, 10), 'unknown name "ERR0R"', "ERROR", id="an unknown level"),
        pytest.param("true && other.name == 1", (1, 9), 'unknown name "other.name"', "attributes", id="a dotted name"),
        pytest.param("true && lower(host)", (1, 9), 'unknown function "lower"', "contains", id="an unknown function"),
        pytest.param("host.lower() == host", (1, 6), 'unknown function "lower"', "matches", id="an unknown method"),
        pytest.param("count > 5", (1, 1), 'unknown name "count"', "service", id="a window's number in a filter"),
        pytest.param("host > 5", (1, 6), '">" cannot take (string, integer)', "(integer, double)", id="wrong types"),
        pytest.param("attributes.n > 5.5", (1, 14), "int() and double() make", "(double, double)", id="a string"),
        pytest.param('level == "ERROR"', (1, 7), "without quotes: level >=", "(integer, integer)", id="quoted level"),
        pytest.param("true && !5", (1, 9), '"!" cannot take (integer)', "(boolean)", id="not of a number"),
        pytest.param("level ? true : false", (1, 7), '"?:" cannot take', "(boolean, A, A)", id="a choice by a number"),
        pytest.param("level >=", (1, 9), "ends too early", "a value", id="cut off"),
        pytest.param("(true", (1, 6), "ends too early", ")", id="an open bracket"),
        pytest.param('host.contains("a" && true', (1, 26), "ends too early", ")", id="an open call"),
        pytest.param("true true", (1, 6), 'unexpected "true"', "the end", id="too much"),
        pytest.param("level = 5", (1, 7), 'unexpected "="', "==", id="one equals sign"),
        pytest.param("true & false", (1, 6), 'unexpected "&"', "&&", id="one ampersand"),
        pytest.param("true | false", (1, 6), 'unexpected "|"', "||", id="one bar"),
        pytest.param("level > $5", (1, 9), 'unexpected "$"', None, id="a strange character"),
        pytest.param('host == "open', (1, 9), "closing quote", None, id="an open string"),
        pytest.param("attributes.a.b == host", (1, 13), "has no fields", "attributes[", id="an attribute with dots"),
        pytest.param("level.name == host", (1, 6), "type integer has no fields", None, id="a number's field"),
        pytest.param("has(host)", (1, 5), "takes only an attribute", "has(attributes.NAME)", id="has without a field"),
        pytest.param("level > 99999999999999999999", (1, 9), "integer beyond 64 bits", None, id="too large a number"),
        pytest.param("level", (1, 1), "must be a boolean, but is of type integer", "a comparison", id="a number"),
        pytest.param("attributes", (1, 1), "is of type list or map", "a comparison", id="a map as a filter"),
        pytest.param('host.matches("a(")', (1, 14), "regular expression of RE2: missing )", None, id="a bad pattern"),
        pytest.param('host.matches("(?=a)")', (1, 14), "RE2: invalid perl operator", None, id="look-ahead"),
        pytest.param("host.matches(service)", (1, 14), "must be a literal", "a string in quotes", id="computed"),
        pytest.param("", (1, 1), "is empty", "a boolean expression", id="empty"),
        pytest.param(" \n ", (1, 1), "is empty", "a boolean expression", id="blank"),
        pytest.param("true" + " " * MAX_CHARACTERS, (1, 4097), "longer than 4096", None, id="too long"),
        pytest.param("(" * 99 + "true" + ")" * 99, (1, 1), "nested too deeply", None, id="too many brackets"),
        pytest.param("level" + " + 1" * 99 + " > 0", (1, 1), "nested too deeply", None, id="too many sums"),
    ],
)
def test_a_diagnostic_names_the_place(
    text: str, place: tuple[int, int], description: str, expected: str | None
) -> None:
    with pytest.raises(ExpressionError) as caught:
        check_filter(text)
    error = caught.value
    assert (error.line, error.column) == place
    assert description in error.description
    assert error.text == text
    assert bool(error.expected) is (expected is not None)
    assert str(error).startswith(f"line {place[0]}, column {place[1]}: {error.description}")
    if expected is not None:
        assert any(expected in each for each in error.expected)


def test_the_message_lists_what_is_expected() -> None:
    with pytest.raises(ExpressionError, match=r"^line 1, column 1: unknown name \"x\"; expected one of count, total, "):
        check_condition("x > 1")
    with pytest.raises(ExpressionError, match=r"column 7: unexpected \"=\"; expected ==$"):
        check_filter("level = 5")


@pytest.mark.parametrize(
    ("message", "diagnostic"),
    [
        ("INTERNAL: out of order [INTERNAL]", "line 1, column 5: out of order"),
        ("INVALID_ARGUMENT: ERROR: <input>:-1:-1: <<nil>> [INVALID_ARGUMENT]", "line 1, column 5: is not complete"),
    ],
)
def test_a_library_error_without_place_is_put_at_the_end(message: str, diagnostic: str) -> None:
    assert str(ExpressionError("true", explain(message, "true", event_language()))) == diagnostic


def test_what_the_language_leaves_out_is_refused() -> None:
    for text in ("dyn(1) == 1", 'timestamp("2020-01-01T00:00:00Z") == timestamp("x")', "null == null", 'b"a" == b"a"'):
        with pytest.raises(ExpressionError):
            check_filter(text)


def test_two_expressions_are_equal_when_they_mean_the_same() -> None:
    assert check_filter("level>=ERROR") == check_filter(" level  >=  5")
    assert check_filter("level >= ERROR") != check_filter("level > ERROR")
    assert hash(check_filter("level>=ERROR")) == hash(check_filter("level >= ERROR"))


def test_an_expression_knows_which_fields_it_reads() -> None:
    expression = check_filter("level > 1 && (has(attributes.a) || attributes.b == host) && [1].exists(n, n == level)")
    assert expression.names == {"level", "attributes", "host"}


def test_a_part_of_an_expression_can_be_judged_alone() -> None:
    expression = check_filter('level > 5 || attributes.exists(key, key == "size")')
    left, right = expression.tree.arguments  # type: ignore[union-attr]
    assert expression.part(left).evaluate(EVENT) is False
    assert expression.part(right).evaluate(EVENT) is True
    assert expression.part(right).names == {"attributes"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("statusCode >= 500", '"status_code"'),
        ("mesage == 'x'", '"message"'),
        ("level > ERR0R", '"ERROR"'),
        ("user.tier == 'gold'", 'attributes["user.tier"]'),
        ("attribute.tier == 'gold'", "attributes.tier"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(ExpressionError, match=rf"; did you mean {re.escape(meant)}\?$"):
        check_filter(text)
