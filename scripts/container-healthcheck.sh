#!/usr/bin/env bash
# Succeeds when the service in this container says that it is ready, or the object gateway that it answers. bash speaks
# TCP itself, so that the image needs no HTTP client.
# Usage: container-healthcheck.sh [PORT [METHOD TARGET]]; without them it asks the service.
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/${1:-9443}"
printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${2:-GET}" "${3:-/readyz}" >&3
read -r -t 2 _ status _ <&3
[ "$status" = 200 ] || { echo "not ready: HTTP $status" >&2; exit 1; }
