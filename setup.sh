#!/bin/sh
# Install all packages, and start everything.
set -eu
make -C "$(dirname "$0")" setup up
