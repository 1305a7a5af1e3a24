"""What every service is mounted on; knows nothing about alerts."""

import os

# gRPC reads this once, when it is imported. Its event engine hands each piece of a message that comes in to another
# thread; with TLS, Envoy's message of 100 kB comes in seven pieces. gRPC's former pollers, which are used instead, read
# all of them on the thread that waits for calls.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")  # noqa: TID251  (gRPC's setting, not a service's)
