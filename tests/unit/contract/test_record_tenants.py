"""Whose a record is."""

import pytest

from services.contract.record_tenants import tenant_in
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult


@pytest.mark.parametrize("form", [AlertTransition, Notification, NotificationResult])
def test_a_record_names_its_tenant(
    form: type[AlertTransition] | type[Notification] | type[NotificationResult],
) -> None:
    assert tenant_in(form(tenant="acme").SerializeToString(), form) == "acme"
    assert tenant_in(form().SerializeToString(), form) == "default"


def test_records_that_cannot_be_read_are_of_one_tenant_that_nobody_has() -> None:
    assert tenant_in(b"\xff", AlertTransition) == ""
