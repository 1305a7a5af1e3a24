"""The manager's rpcs, made of its parts."""

from secrets import token_bytes

from services.chassis.grpc_server import Mount
from services.domain.tenants import TenantLimits
from services.manager.adapters.postgres.audit import PostgresAuditReader
from services.manager.adapters.postgres.explanations import PostgresExplanationReader
from services.manager.adapters.postgres.learned_edges import PostgresLearnedEdgeReader
from services.manager.adapters.postgres.reports import PostgresReportReader
from services.manager.adapters.postgres.rule_problems import PostgresRuleProblemReader
from services.manager.adapters.postgres.rules import PostgresRuleStatisticsReader
from services.manager.adapters.postgres.service_changes import PostgresChangeReader
from services.manager.app.parts import ManagerParts, new_id
from services.manager.rpc.access import AccessRpc
from services.manager.rpc.alerts import AlertCommands, AlertContext, AlertRpc
from services.manager.rpc.catalog import CatalogRpc
from services.manager.rpc.catalog_commands import CatalogCommands
from services.manager.rpc.changes import ChangeRpc
from services.manager.rpc.explanations import ExplanationRpc
from services.manager.rpc.incident_commands import IncidentCommands
from services.manager.rpc.incidents import IncidentRpc
from services.manager.rpc.learned_edges import LearnedEdgeRpc
from services.manager.rpc.on_call import OnCallRpc
from services.manager.rpc.on_call_commands import OnCallCommands
from services.manager.rpc.reports import ReportRpc
from services.manager.rpc.routing import RoutingContext, RoutingRpc
from services.manager.rpc.routing_commands import RoutingChecker, RoutingCommands
from services.manager.rpc.rule_commands import RuleCommands
from services.manager.rpc.rule_statistics import CurrentProblems, RuleStatisticsRpc
from services.manager.rpc.rules import AlertRuleRpc
from services.manager.rpc.silence_commands import SilenceCommands
from services.manager.rpc.silences import SilenceRpc


def mounts_of(parts: ManagerParts) -> list[Mount]:
    """Return the rpcs."""
    problems = PostgresRuleProblemReader(parts.database)
    rules = AlertRuleRpc(
        RuleCommands(
            parts.store,
            parts.clock,
            new_id,
            parts.metrics,
            parts.checker,
            TenantLimits.parse(parts.settings.tenant_rules),
        ),
        parts.rule_reader,
        parts.response_cache,
        parts.rules,
        parts.settings.heartbeat,
        CurrentProblems(problems, parts.clock),
    )
    commands = AlertCommands(parts.store, parts.dedup_cache, parts.clock, parts.metrics)
    changes = PostgresChangeReader(parts.database)
    context = AlertContext(parts.catalog, changes)
    alerts = AlertRpc(commands, parts.alert_reader, parts.response_cache, parts.alerts, context)
    recorded = ChangeRpc(parts.store, changes, parts.clock, new_id)
    catalog = CatalogRpc(CatalogCommands(parts.store, parts.clock, parts.catalog), parts.catalog)
    incidents = IncidentRpc(
        IncidentCommands(parts.store, parts.catalog, parts.dedup_cache, parts.clock, parts.incident_settings),
        parts.incident_reader,
        parts.watched_incidents,
        context,
    )
    learned_edges = LearnedEdgeRpc(
        parts.store, PostgresLearnedEdgeReader(parts.database), parts.clock, parts.metrics, parts.learning
    )
    statistics = RuleStatisticsRpc(parts.store, PostgresRuleStatisticsReader(parts.database), problems, parts.clock)
    silences = SilenceRpc(
        SilenceCommands(parts.store, parts.clock, new_id, parts.silences),
        parts.silence_reader,
        parts.alert_reader,
        parts.matched_alerts,
        parts.clock,
    )
    reports = ReportRpc(PostgresReportReader(parts.database), parts.clock)
    on_call = OnCallRpc(
        OnCallCommands(parts.store, parts.clock, new_id, parts.on_call, parts.receivers),
        parts.on_call,
        parts.clock,
    )
    explanations = ExplanationRpc(
        parts.alert_reader,
        parts.incident_reader,
        parts.silence_reader,
        PostgresExplanationReader(parts.database),
    )
    served = (rules, alerts, statistics, catalog, learned_edges, incidents, recorded, silences, reports, on_call)
    audit = PostgresAuditReader(parts.database)
    access = AccessRpc(parts.store, parts.key_reader, audit, parts.keys, parts.clock, token_bytes)
    return [each.mount() for each in (*served, explanations, _routing_rpc(parts), access)]


def _routing_rpc(parts: ManagerParts) -> RoutingRpc:
    checker = RoutingChecker(parts.receivers, lambda: parts.on_call.current.policies)
    context = RoutingContext(
        catalog=parts.catalog,
        silences=parts.silences,
        silence_reader=parts.silence_reader,
        alerts=parts.matched_alerts,
        on_call=parts.on_call,
    )
    commands = RoutingCommands(parts.store, parts.routing_reader, parts.clock, parts.routing, checker)
    return RoutingRpc(commands, checker, parts.routing_reader, parts.routing, context, parts.clock)
