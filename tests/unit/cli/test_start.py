"""The start of the command: it is quick, and Ctrl-C ends it without a traceback, from its first import on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Stands in for a module that the command imports, or for its run, during which Ctrl-C is pressed.
CTRL_C = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"


def start(folder: Path, module: str, text: str, *, completes: bool = False, before: str = "") -> tuple[int, str]:
    """Start the command with one module replaced; return its exit code and what it wrote to standard error."""
    (folder / module).parent.mkdir(parents=True, exist_ok=True)
    (folder / module).write_text(text)
    environ = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{ROOT}:{ROOT / 'gen'}",
        "COMP_WORDS": "tocsin ",
        "COMP_CWORD": "1",
    }
    if completes:
        environ["_TOCSIN_COMPLETE"] = "complete_bash"
    # Where the tests run in the background of a script, Ctrl-C is ignored.
    taken = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{taken}\n{before}\nfrom cli.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("completes", [True, False])
def test_ctrl_c_while_the_command_is_imported_says_nothing(tmp_path: Path, *, completes: bool) -> None:
    assert start(tmp_path, "typer.py", CTRL_C, completes=completes) == (-signal.SIGINT, "")


def test_a_completion_is_quiet_to_its_end_and_a_command_ends_in_order(tmp_path: Path) -> None:
    run = "import sys; sys.modules['cli.main'] = type(sys)('cli.main'); sys.modules['cli.main'].main = lambda: exec(%r)"
    before = run % CTRL_C
    assert start(tmp_path, "unused.py", "", completes=True, before=before) == (-signal.SIGINT, "")
    code, error = start(tmp_path, "unused.py", "", before=before)
    assert "KeyboardInterrupt" in error
    assert code == -signal.SIGINT


def test_where_ctrl_c_is_ignored_it_stays_so(tmp_path: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    code, error = start(tmp_path, "typer.py", f"{CTRL_C}raise SystemExit(7)", before=ignore)
    assert (code, error) == (7, "")


def test_garbage_is_collected_only_once_all_is_imported(tmp_path: Path) -> None:
    main = "lambda: sys.exit(1 if gc.isenabled() and gc.get_freeze_count() > 1000 else 2)"
    before = f"import gc, sys; sys.modules['cli.main'] = type(sys)('cli.main'); sys.modules['cli.main'].main = {main}"
    assert start(tmp_path, "unused.py", "", before=before) == (1, "")
    code, error = start(tmp_path, "typer.py", "import gc\nraise SystemExit(7 if gc.isenabled() else 8)")
    assert (code, error) == (8, "")


def test_commands_do_not_wait_for_the_library_of_columns() -> None:
    program = "import cli.main, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"numpy", "pyarrow"}.isdisjoint(ran.stdout.split())
