#!/bin/sh
# Send random events at a steady rate and print a verdict: ./load-test.sh --rate 1000 --seconds 60 --mix errors=5
set -eu
exec "$(dirname "$0")/.venv/bin/tocsin" load "$@"
