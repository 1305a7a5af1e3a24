"""What each rpc needs, as the contracts say."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from services.access.methods import MethodAccess, own_methods, read_access
from services.contract.public_services import PUBLIC_SERVICES
from services.domain.roles import Role

SERVICES = ("ingest", "evaluator", "manager", "notifier")


def own_services() -> list[ServiceDescriptor]:
    pool = descriptor_pool.Default()
    return [pool.FindServiceByName(name) for name in PUBLIC_SERVICES if name.startswith("tocsin.")]


def service_of(file: descriptor_pb2.FileDescriptorProto) -> ServiceDescriptor:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName(f"{file.package}.{file.service[0].name}")


def test_every_rpc_of_every_service_names_a_role() -> None:
    methods = own_methods()

    rpcs = {f"/{service.full_name}/{method.name}" for service in own_services() for method in service.methods}
    assert rpcs <= methods.keys()
    assert {name for access in methods.values() for name in access.services} <= set(SERVICES)


def test_an_rpc_without_a_role_is_refused() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="some.proto", package="some", syntax="proto3")
    file.message_type.add(name="Nothing")
    file.service.add(name="Some").method.add(name="Call", input_type=".some.Nothing", output_type=".some.Nothing")

    with pytest.raises(ValueError, match=r"some\.Some\.Call has no role"):
        read_access([service_of(file)])


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("/tocsin.logs.v1.LogIngestService/IngestBatch", MethodAccess(role=Role.INGEST)),
        ("/tocsin.alerts.v1.AlertService/ListAlerts", MethodAccess(role=Role.VIEWER)),
        ("/tocsin.alerts.v1.AlertService/ResolveAlert", MethodAccess(role=Role.RESPONDER, is_command=True)),
        ("/tocsin.rules.v1.AlertRuleService/DeleteAlertRule", MethodAccess(role=Role.EDITOR, is_command=True)),
        (
            "/tocsin.rules.v1.AlertRuleService/WatchAlertRules",
            MethodAccess(role=Role.VIEWER, services=frozenset({"evaluator"})),
        ),
        (
            "/tocsin.rules.v1.RuleStatisticsService/ReportRuleStatistics",
            MethodAccess(role=Role.SERVICE, services=frozenset({"evaluator"})),
        ),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", MethodAccess(role=Role.VIEWER)),
        ("/tocsin.edge.ServerReflection/ServerReflectionInfo", MethodAccess(role=Role.VIEWER)),
    ],
)
def test_what_an_rpc_needs_is_read_from_its_option(path: str, needed: MethodAccess) -> None:
    assert own_methods()[path] == needed


def test_whoever_changes_something_needs_more_than_a_viewer_and_is_recorded() -> None:
    methods = own_methods()

    recorded = {path for path, access in methods.items() if access.is_command}
    assert recorded == {
        path for path, access in methods.items() if access.role in (Role.RESPONDER, Role.EDITOR, Role.ADMIN)
    } - {"/tocsin.access.v1.AccessService/ListKeys", "/tocsin.access.v1.AccessService/ListAuditRecords"}
