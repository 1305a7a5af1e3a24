"""Two releases side by side: nothing is lost or doubled while one part after the other is replaced."""

from pathlib import Path

import pytest

from cli.exercise.campaign import run_campaign
from stack.servers import SERVERS
from stack.testing import Servers
from tests.upgrade.two_versions import ORDER, has_former, two_versions


@pytest.mark.timeout(900)
@pytest.mark.skipif(not has_former(), reason="the former release is not in the history of this clone")
def test_alerts_go_on_while_the_former_release_is_replaced(own_servers: Servers, tmp_path: Path) -> None:
    own_servers.start(*SERVERS)
    with two_versions(tmp_path, own_servers.addresses) as target:
        rows = run_campaign(target, ORDER, print)
    assert [row.part for row in rows] == ["", *ORDER]
    assert all(row.is_well and row.probes for row in rows), rows
