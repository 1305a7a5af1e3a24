"""Whose the records are that services exchange: consumers share their batches between tenants."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from google.protobuf.message import DecodeError

from services.domain.tenants import read_tenant
from tocsin.alerts.v1.alert_pb2 import AlertTransition
from tocsin.notifications.v1.notification_pb2 import Notification, NotificationResult

_TenantMessage: TypeAlias = AlertTransition | Notification | NotificationResult


class _Record(Protocol):
    @property
    def value(self) -> bytes: ...


def tenant_reader(form: type[_TenantMessage]) -> Callable[[_Record], str]:
    """Return what reads the tenant that a record of this form names, the empty name for one that cannot be read."""

    def tenant_of(record: _Record) -> str:
        try:
            return read_tenant(form.FromString(record.value).tenant)
        except DecodeError:
            return ""

    return tenant_of
