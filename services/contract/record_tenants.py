"""Whose the records are that services exchange: consumers share their batches between tenants."""

from typing import TypeAlias

from google.protobuf.message import DecodeError

from services.domain.tenants import read_tenant
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult

_TenantMessage: TypeAlias = AlertTransition | Notification | NotificationResult


def tenant_in(record: bytes, form: type[_TenantMessage]) -> str:
    """Return the tenant that a record names, the empty name for one that cannot be read."""
    try:
        return read_tenant(form.FromString(record).tenant)
    except DecodeError:
        return ""
