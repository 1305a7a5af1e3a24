from pathlib import Path

from typer.testing import CliRunner

from cli.main import app


def test_an_unknown_time_zone_is_wrong_usage(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["send", str(tmp_path), "--timezone", "Mars/Olympus"])
    assert done.exit_code == 2
    assert "Mars/Olympus" in done.output
