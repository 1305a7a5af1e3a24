"""Envoy's starter explains itself, and does not start then."""

import sys

import pytest

from stack.envoy import main


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["stack.envoy", option])
    main()
    assert "GATEWAY_CONCURRENCY" in capsys.readouterr().out
