"""Every line of a file is an event, a part of one, blank or refused; one that is none of these is missed."""

from pathlib import Path

import pytest

from cli.demo.report import is_accounted_for
from cli.demo.steps import FileSent
from cli.send.log_file import Source, read
from cli.send.sender import Tally
from tests.fakes.clock import FakeClock

TEXT = "INFO: one\n\nERROR: two\n  goes on\n \t\nINFO: three\n"


def test_blank_lines_are_counted_where_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text(TEXT)
    source = Source(file)
    _, reads = read(source.lines(), kind=None, service="app", clock=FakeClock())
    assert sum(one.line_count for one in reads) == 4
    source.close()
    assert (source.lines_read, source.blank_lines) == (6, 2)


@pytest.mark.parametrize(
    ("lines", "is_whole"),
    [pytest.param(4, True, id="all"), pytest.param(3, False, id="one lost"), pytest.param(5, False, id="one twice")],
)
def test_a_line_that_is_lost_is_not_taken_for_a_blank_one(*, lines: int, is_whole: bool) -> None:
    sent = FileSent(name="app.log", form="plain", lines=6, blank=2, tally=Tally(accepted=3, lines=lines))
    assert is_accounted_for(sent) is is_whole
