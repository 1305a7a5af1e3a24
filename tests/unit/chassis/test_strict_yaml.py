"""What is wrong with a document is said in words for who writes it, and never in those of a library."""

import pytest

from services.chassis.strict_yaml import DocumentError, load_documents


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\n  b: c: 2\n", "line 2, column 4: a colon is not allowed here: look at the indentation"),
        ("a: 1\nb\nc: 2\n", "line 3, column 1: a key without a colon"),
        ("a:\n  - b\n c: 1\n", "line 3, column 2: this does not belong to what stands above"),
        ("a:\n\tb: 1\n", "line 2, column 1: a tab cannot indent: write spaces"),
        ('a: "b\n', "line 2, column 1: a quote is not closed"),
        ("a: [b\n", "line 2, column 1: the list in brackets is not closed"),
        ("a: {b: 1\n", "line 2, column 1: the mapping in braces is not closed"),
        ("a: !b c\n", "line 1, column 4: tags such as !this have no meaning here"),
        ("a: *b\n", "line 1, column 4: *this stands for what has &this before it"),
        ("a: *\n", "line 1, column 5: * and & begin a name here: put the value in quotes"),
        ("a: @b\n", "line 1, column 4: this character cannot begin a value: put the value in quotes"),
        ('a: "\\d+"\n', "line 1, column 6: in double quotes a backslash is written twice; in single quotes once"),
        ("%a b c\n", "line 2, column 1: this is not YAML"),
        ("a: b\nc: d\x00\n", "line 2, column 5: a control character, which is not allowed here"),
        ("[" * 5000, "the document is nested too deeply"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(DocumentError) as refused:
        load_documents(text)
    assert str(refused.value).startswith(problem)
