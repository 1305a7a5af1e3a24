"""Whose a record is."""

import pytest

from services.chassis.kafka import Record
from services.contract.record_tenants import tenant_reader
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult


def record(value: bytes) -> Record:
    return Record("alerts", 0, 0, None, value, (), 0)


@pytest.mark.parametrize("form", [AlertTransition, Notification, NotificationResult])
def test_a_record_names_its_tenant(
    form: type[AlertTransition] | type[Notification] | type[NotificationResult],
) -> None:
    assert tenant_reader(form)(record(form(tenant="acme").SerializeToString())) == "acme"
    assert tenant_reader(form)(record(form().SerializeToString())) == "default"


def test_records_that_cannot_be_read_are_of_one_tenant_that_nobody_has() -> None:
    assert tenant_reader(AlertTransition)(record(b"\xff")) == ""
