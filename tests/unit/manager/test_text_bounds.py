"""What people write with a command is stored, so it has a maximum; beyond it the command is refused."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from services.chassis.failures import InvalidRequest
from services.manager.core.alert_lifecycle import AlertAction
from services.manager.rpc.alerts import AlertCommands
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands
from services.manager.rpc.silence_commands import read_silence
from tests.fakes.clock import FakeClock
from tests.fakes.transitions import NOW
from tocsin.alerts.v1.alert_service_pb2 import AcknowledgeAlertRequest, AcknowledgeAlertResponse
from tocsin.incidents.v1.incident_service_pb2 import AssignIncidentRequest, CommentIncidentRequest
from tocsin.routing.v1.routing_service_pb2 import SetRoutingRequest
from tocsin.silences.v1.silence_pb2 import Silence

ANYTHING = cast("Any", None)
# Nothing is read or written before the texts are checked.
ALERTS = AlertCommands(ANYTHING, ANYTHING, FakeClock(NOW), ANYTHING)
INCIDENTS = IncidentCommands(ANYTHING, ANYTHING, ANYTHING, FakeClock(NOW), ANYTHING)
ROUTING = RoutingCommands(ANYTHING, ANYTHING, FakeClock(NOW), ANYTHING, ANYTHING)
CHECKER = RoutingChecker(ANYTHING, ANYTHING)
ACTOR, COMMENT = "a" * 257, "c" * 4097


async def silence(**texts: str) -> None:
    read_silence(Silence(**texts), "id", NOW)  # type: ignore[arg-type]  # the names are those of texts


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (
            lambda: ALERTS.run(
                AcknowledgeAlertRequest(id="x", actor=ACTOR, comment=COMMENT),
                AlertAction.ACKNOWLEDGE,
                AcknowledgeAlertResponse,
            ),
            ["actor", "comment"],
        ),
        (
            lambda: INCIDENTS.comment(CommentIncidentRequest(id="x", actor=ACTOR, comment=COMMENT)),
            ["actor", "comment"],
        ),
        (lambda: INCIDENTS.assign(AssignIncidentRequest(id="x", assignee=ACTOR)), ["assignee"]),
        (lambda: ROUTING.set(SetRoutingRequest(author=ACTOR, comment=COMMENT)), ["author", "comment"]),
        (lambda: silence(author=ACTOR, comment=COMMENT), ["author", "comment"]),
    ],
    ids=["alert", "incident", "assignee", "routing", "silence"],
)
async def test_a_text_that_is_too_long_is_refused_by_its_name(
    command: Callable[[], Awaitable[object]], fields: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await command()
    assert [violation.field for violation in refused.value.violations] == fields


async def test_a_routing_tree_has_a_maximum_size() -> None:
    request = SetRoutingRequest()
    request.tree.root.receivers.append("r" * (256 << 10))
    with pytest.raises(InvalidRequest) as refused:
        await CHECKER.read(request.tree)
    assert [violation.field for violation in refused.value.violations] == ["tree"]
    assert f"at most {256 << 10}" in refused.value.violations[0].description
