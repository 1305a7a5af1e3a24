"""What each rpc needs, read from the contracts: the option `tocsin.access.v1.access` of every method."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from services.contract.public_services import PUBLIC_SERVICES
from services.domain.roles import Role
from tocsin.access.v1.access_pb2 import Access, access

# gRPC's own services have no options of ours. Health tells states only, and is not guarded.
_REFLECTION = (
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/tocsin.edge.ServerReflection/ServerReflectionInfo",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodAccess:
    """What one rpc needs."""

    # SERVICE: only the services below may call.
    role: Role
    # Services of the system that may call it whatever the role.
    services: frozenset[str] = frozenset()
    # Whether it changes something, so that each call is recorded in the audit log.
    is_command: bool = False


# What Envoy itself calls, and routes no call of others to: it reports the calls that it has refused.
GATEWAY_METHODS = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": MethodAccess(
        role=Role.SERVICE, services=frozenset({"gateway"})
    )
}


def own_methods() -> dict[str, MethodAccess]:
    """Return what each rpc of the whole system needs."""
    pool = descriptor_pool.Default()
    return read_access(pool.FindServiceByName(name) for name in PUBLIC_SERVICES if name.startswith("tocsin."))


def rpc_finder() -> Callable[[str, str], str]:
    """Return what finds the rpc of a verb and a path of HTTP, also of REST; empty where there is none."""
    pool, own = descriptor_pool.Default(), own_methods()
    methods = [
        method
        for name in PUBLIC_SERVICES
        if name.startswith("tocsin.")
        for method in pool.FindServiceByName(name).methods
    ]
    paths = [(verb, path, _path_of(method)) for method in methods for verb, path in _rest_paths(method)]

    def find(verb: str, path: str) -> str:
        if path in own:
            return path
        return next((rpc for each, pattern, rpc in paths if each == verb and pattern.fullmatch(path)), "")

    return find


def _rest_paths(method: MethodDescriptor) -> Iterator[tuple[str, re.Pattern[str]]]:
    main = method.GetOptions().Extensions[annotations_pb2.http]
    for rule in (main, *main.additional_bindings):
        if verb := rule.WhichOneof("pattern"):
            parts = re.split(r"\{[^}]+\}", getattr(rule, verb))
            yield verb.upper(), re.compile("[^/]+".join(map(re.escape, parts)))


def _path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def read_access(services: Iterable[ServiceDescriptor]) -> dict[str, MethodAccess]:
    """Return what each rpc of these services, and reflection, needs, by its path `/package.Service/Method`.

    Raises ValueError for an rpc without the option: nobody could say who may call it.
    """
    found = dict.fromkeys(_REFLECTION, MethodAccess(role=Role.VIEWER))
    for service in services:
        for method in service.methods:
            found[_path_of(method)] = _access_of(method)
    return found


def _access_of(method: MethodDescriptor) -> MethodAccess:
    options = method.GetOptions()
    needed = options.Extensions[access]
    if needed.role == Access.ROLE_UNSPECIFIED:
        raise ValueError(f"{method.full_name} has no role: set option (tocsin.access.v1.access)")
    role = Role(Access.Role.Name(needed.role).lower())
    reads = options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    return MethodAccess(
        role=role,
        services=frozenset(needed.services),
        is_command=not reads and role not in (Role.INGEST, Role.SERVICE),
    )
