"""Which processes of a folder are strays, by one reading of the process table."""

import pytest

from stack.process_tree import ProcessRow, find_strays

SERVER = ProcessRow(pid=10, parent=1, is_ours=True)
BACKEND = ProcessRow(pid=11, parent=10, is_ours=True)
SHELL = ProcessRow(pid=20, parent=10, is_ours=False)
BELOW_SHELL = ProcessRow(pid=21, parent=20, is_ours=True)


def ours(pid: int, parent: int) -> ProcessRow:
    return ProcessRow(pid=pid, parent=parent, is_ours=True)


@pytest.mark.parametrize(
    ("table", "known", "lost"),
    [
        ([SERVER, BACKEND], {10}, []),
        ([BACKEND], {10}, []),
        ([SERVER, SHELL, BELOW_SHELL], {10}, []),
        ([SERVER, BACKEND], set(), [10, 11]),
        ([SERVER, ours(30, 1)], {10}, [30]),
        ([SERVER, ours(11, 1)], {10}, [11]),
        ([ProcessRow(pid=30, parent=1, is_ours=False)], set(), []),
        ([ours(30, 31), ours(31, 30)], {10}, [30, 31]),
    ],
    ids=[
        "the child of what was written down",
        "a child that was forked after its parent was passed over",
        "a grandchild",
        "nothing was written down",
        "another one of ours",
        "a child whose parent has ended",
        "a stranger",
        "a ring, as pids that are given away again can make one",
    ],
)
def test_only_what_was_started_here_and_lost_is_a_stray(
    table: list[ProcessRow], known: set[int], lost: list[int]
) -> None:
    assert find_strays(table, known) == lost
