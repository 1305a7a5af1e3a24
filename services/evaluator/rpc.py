"""The evaluator's rpcs: health and reflection, which every service has, and none of its own yet."""

from collections.abc import Sequence

from services.chassis.grpc_server import Mount

MOUNTS: Sequence[Mount] = ()
