"""What callers of the manager may be refused with; every reason is one of tocsin.errors.v1."""

import grpc

from services.chassis.failures import Failure


class RuleNotFound(Failure):
    """There is no alert rule with this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "RULE_NOT_FOUND"


class RuleNameTaken(Failure):
    """An alert rule of this name exists already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "RULE_NAME_TAKEN"


class TooManyRules(Failure):
    """There are as many alert rules as there may be."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "TOO_MANY_RULES"


class EtagMismatch(Failure):
    """The resource was changed since the etag of the request was read."""

    code = grpc.StatusCode.ABORTED
    reason = "ETAG_MISMATCH"


class RequestIdReused(Failure):
    """The request_id was used before with another body."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"


class AlertNotFound(Failure):
    """There is no alert with this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "ALERT_NOT_FOUND"


class AlertStateConflict(Failure):
    """The alert's state does not allow this command."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "ALERT_STATE_CONFLICT"
