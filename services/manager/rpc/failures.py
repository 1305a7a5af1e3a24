"""The failures of the manager's rpcs; each reason is one of tocsin.errors.v1."""

import grpc

from services.chassis.failures import Failure


class RuleNotFound(Failure):
    """No alert rule has this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "RULE_NOT_FOUND"


class RuleNameTaken(Failure):
    """Another alert rule has this name."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "RULE_NAME_TAKEN"


class TooManyRules(Failure):
    """The maximum number of alert rules is stored."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_MANY_RULES"


class ServiceNotFound(Failure):
    """The catalog has no service of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SERVICE_NOT_FOUND"


class LearnedEdgeNotFound(Failure):
    """No dependency between these services was learned."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "LEARNED_EDGE_NOT_FOUND"


class TooManyServices(Failure):
    """The catalog has the maximum number of services."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_MANY_SERVICES"


class EtagMismatch(Failure):
    """The resource was changed since the etag of the request was read."""

    code = grpc.StatusCode.ABORTED
    reason = "ETAG_MISMATCH"


class AlertNotFound(Failure):
    """No alert has this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ALERT_NOT_FOUND"


class AlertStateConflict(Failure):
    """The alert's state does not allow this action."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "ALERT_STATE_CONFLICT"


class RoutingNotFound(Failure):
    """There is no such version of the routing tree."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ROUTING_NOT_FOUND"


class IncidentNotFound(Failure):
    """No incident has this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "INCIDENT_NOT_FOUND"


class IncidentStateConflict(Failure):
    """The incident's state does not allow this action."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "INCIDENT_STATE_CONFLICT"


class TooManyComments(Failure):
    """The incident has the maximum number of comments, which nobody can delete."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_COMMENTS"


class TooManyChanges(Failure):
    """The maximum number of changes of services is stored; they are deleted after their retention."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CHANGES"


class SilenceNotFound(Failure):
    """No silence has this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SILENCE_NOT_FOUND"


class TooManySilences(Failure):
    """The maximum number of silences that have not expired is stored."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_MANY_SILENCES"


class KeyNotFound(Failure):
    """No API key of the tenant has this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "KEY_NOT_FOUND"


class TooManyKeys(Failure):
    """The maximum number of valid API keys is stored."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_MANY_KEYS"


class ReportTimedOut(Failure):
    """The store needs too long for a report."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "REPORT_TIMED_OUT"


class PersonNotFound(Failure):
    """No person has this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "PERSON_NOT_FOUND"


class ScheduleNotFound(Failure):
    """No schedule has this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "SCHEDULE_NOT_FOUND"


class PolicyNotFound(Failure):
    """No escalation policy has this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "POLICY_NOT_FOUND"


class OverrideNotFound(Failure):
    """The schedule has no override with this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "OVERRIDE_NOT_FOUND"


class StillInUse(Failure):
    """Something else refers to what was to be deleted."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "STILL_IN_USE"


class TooManyOnCall(Failure):
    """There are as many people, schedules, policies or overrides as there may be."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_MANY_ON_CALL"
