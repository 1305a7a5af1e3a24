"""What shells get to complete: text from logs and names of rules stay text."""

import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from cli.completion import open_quote, quote_for_bash, quote_for_zsh
from cli.main import app
from tests.fakes.edge import Edge
from tocsin.alerts.v1.alert_pb2 import Alert

ALERT = "01234567-89ab-7def-8123-456789abcdef"
HOSTILE = "a\\$(touch pwned) `touch pwned` \"'; [/x] *  b"


@pytest.fixture
def hostile(edge: Edge) -> Edge:
    edge.alerts = [Alert(id=ALERT, rule_name="r", state=Alert.FIRING, resource=HOSTILE)]
    return edge


def complete(edge: Edge, shell: str, words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TOCSIN_SERVER", edge.address)
    environ = {
        "_TOCSIN_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - (not words.endswith(" "))),
    }
    done = CliRunner().invoke(app, prog_name="tocsin", env=environ)
    assert done.exit_code == 0, done.output
    return done.stdout.rstrip("\n")


def test_zsh_gets_no_special_character_of_a_description(hostile: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = complete(hostile, "zsh", "tocsin alerts show 0", monkeypatch)
    assert ALERT in shown
    assert "$(" not in shown
    assert not set('`"*[]') & set(shown)
    if shutil.which("zsh"):
        code = 'compadd() { :; }; show() { eval $(cat); print -r -- "$lines" }; show'
        done = subprocess.run(["zsh", "-f", "-c", code], input=shown, capture_output=True, text=True, check=True)
        assert done.stdout == f"{ALERT}  FIRING r on {' '.join(HOSTILE.split())}\n"


def test_zsh_gets_files_where_nothing_is_known(hostile: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(hostile, "zsh", "tocsin rules create ./", monkeypatch) == "_files"


def test_bash_gets_the_id_alone_and_fish_the_text_as_it_is(hostile: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(hostile, "bash", "tocsin alerts show 0", monkeypatch) == ALERT
    shown = complete(hostile, "fish", "tocsin alerts show 0", monkeypatch)
    assert shown == f"{ALERT}\tFIRING r on {' '.join(HOSTILE.split())}"


@pytest.mark.parametrize("name", [HOSTILE, "High error count", "db: slow", "Fehler größer", "it's \\"])
def test_a_shell_reads_back_what_was_quoted_for_it(name: str) -> None:
    assert read_by("bash", quote_for_bash(name, "")) == name
    if shutil.which("zsh"):
        assert read_by("zsh", quote_for_zsh(name)) == name


def read_by(shell: str, word: str) -> str:
    done = subprocess.run([shell, "-c", f"printf %s {word}"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "quote"),
    [("a b", ""), ('a "b c', '"'), ("a 'b", "'"), ('a "b" c', ""), ('a \\"b', ""), ("a 'b\\", "'"), ("a \"b'", '"')],
)
def test_an_open_quote_is_found(typed: str, quote: str) -> None:
    assert open_quote(typed) == quote


def test_inside_of_quotes_a_value_is_given_as_it_is_or_not_at_all() -> None:
    assert [quote_for_bash("a  b", quote) for quote in ('"', "'")] == ["a  b", "a  b"]
    assert [quote_for_bash("$(x)", quote) for quote in ('"', "'")] == ["", "$(x)"]
    assert [quote_for_bash("it's", quote) for quote in ('"', "'")] == ["it's", ""]
