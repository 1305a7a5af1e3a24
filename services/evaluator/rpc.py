"""What the evaluator answers over gRPC: health and reflection, which every service has, and nothing of its own yet."""

from collections.abc import Sequence

from services.chassis.grpc_server import Mount

MOUNTS: Sequence[Mount] = ()
