#!/bin/sh
# Start a system of its own, send three kinds of failures, and check alerts and notifications.
set -eu
exec make -C "$(dirname "$0")/.." demo
