"""What one start does, decided before it stops or starts anything: its wiring, and what it says about that."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from services.chassis.settings import address_or_nothing
from stack.ports import Ports, port_variable
from stack.secure_files import SecureFiles
from stack.servers import ADDRESS_VARIABLES, external_addresses, local_addresses, topic_replicas
from stack.service_settings import ServiceSettings, settings_of_start
from stack.start_options import RequestedOptions, explain_variables, merge_options, merge_variables
from stack.system import named_variables
from stack.wiring import SERVICES, Wiring, gateway_environ, service_environ, sockets_folder, stored_wiring

# Enough to notice that a value has changed, and too few to find the value by trying.
_CHECK_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlan:
    """How the system is wired from now on, and lines for a person: what differs from the last start, what is kept."""

    wiring: Wiring
    lines: list[str]


def plan_start(
    folder: Path,
    requested: RequestedOptions,
    environ: Mapping[str, str],
    *,
    ports: Ports | None,
    external: Mapping[str, str] | None,
    servers_only: bool,
) -> StartPlan:
    """Return the plan of a start in this folder.

    `ports` and `external` are taken as they are; None: those of the environment, else those of the last start.
    Raise ValueError for ports, servers and replicas that cannot be used, SettingsRefusedError for settings, StartError.
    """
    topic_replicas(environ)
    stored = stored_wiring(folder)
    wiring = _wire(folder, stored, requested, environ, ports, external)
    settings = ServiceSettings(used=stored.settings)
    if not servers_only:
        problems = _option_problems(wiring)
        # The programs would name it as well, under names that nobody has set.
        asked = replace(wiring, otlp="") if problems else wiring
        settings = settings_of_start(environ, stored.settings, _fixed(asked, folder), problems)
    wiring = replace(wiring, settings=settings.used, routes_checks=_checks(wiring.routes, environ))
    # Ports that the caller has chosen are no choice of the user.
    hidden = set() if ports is None else set(_PORT_DEFAULTS)
    before, now = (_without(one.variables, hidden) for one in (stored, wiring))
    own = set() if wiring.routes is None else set(named_variables(wiring.routes, environ))
    lines = explain_variables(before, now, _PORT_DEFAULTS | _SERVER_DEFAULTS | dict(settings.defaults))
    lines += [f"{name}: changed" for name in _changed_checks(stored, wiring)]
    lines += [f"{name} is ignored: {reason}" for name, reason in settings.ignored.items() if name not in own]
    return StartPlan(wiring=wiring, lines=lines)


_PORT_DEFAULTS = {port_variable(name): str(port) for name, port in asdict(Ports()).items()}
_SERVER_DEFAULTS = dict.fromkeys(ADDRESS_VARIABLES.values(), "a server that is started here")


def is_secure_start(folder: Path, requested: RequestedOptions) -> bool:
    """Return whether a start in this folder is one with certificates and keys."""
    return merge_options(requested, stored_wiring(folder).options).secure


def current_ports(folder: Path, environ: Mapping[str, str]) -> Ports:
    """Return the ports of the folder's system: those of the environment, else those of its last start.

    Raise ValueError when these cannot be used.
    """
    return _merge_ports(stored_wiring(folder), environ)


def _wire(
    folder: Path,
    stored: Wiring,
    requested: RequestedOptions,
    environ: Mapping[str, str],
    ports: Ports | None,
    external: Mapping[str, str] | None,
) -> Wiring:
    options = merge_options(requested, stored.options)
    chosen = _merge_ports(stored, environ) if ports is None else ports
    servers = _merge_servers(stored, environ) if external is None else external
    addresses = replace(local_addresses(chosen, secure=options.secure), **servers)
    return Wiring(
        addresses=addresses,
        ports=chosen,
        otlp=options.otlp,
        routes=options.routes,
        sinks=options.sinks,
        secure=SecureFiles(home=folder) if options.secure else None,
        sockets=sockets_folder(folder),
        external=servers,
    )


def _option_problems(wiring: Wiring) -> list[str]:
    try:
        address_or_nothing(wiring.otlp)
    except ValueError as error:
        return [f'OTLP {error}, found "{wiring.otlp}"']
    return []


def _merge_ports(stored: Wiring, environ: Mapping[str, str]) -> Ports:
    return Ports.read(merge_variables(_given(environ, _PORT_DEFAULTS), stored.ports.moved))


def _merge_servers(stored: Wiring, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {ADDRESS_VARIABLES[name]: address for name, address in stored.external.items()}
    return external_addresses(merge_variables(_given(environ, _SERVER_DEFAULTS), kept))


def _given(environ: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: environ[name] for name in names if name in environ}


def _fixed(wiring: Wiring, folder: Path) -> dict[str, dict[str, str]]:
    """Return, by program, the settings that the start itself sets."""
    services = {name: service_environ(name, wiring, folder) for name in SERVICES}
    return services | {"gateway": gateway_environ(wiring, folder)}


def _checks(routes: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    named = {} if routes is None else named_variables(routes, environ)
    return {name: hashlib.sha256(value.encode()).hexdigest()[:_CHECK_DIGITS] for name, value in named.items()}


def _changed_checks(stored: Wiring, wiring: Wiring) -> list[str]:
    return [name for name, check in wiring.routes_checks.items() if stored.routes_checks.get(name, check) != check]


def _without(variables: Mapping[str, str], hidden: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in hidden}
