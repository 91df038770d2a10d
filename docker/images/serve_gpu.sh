#!/bin/sh
# What the GPU image runs, with tritonserver's flags behind it: the repository and its plan are verified, then served.
set -eu

repository=${FER_MODELS:-/models}/repository
fer-build verify "$repository"

# Nobody is given this key: who can reach the port cannot load models, map memory, or write traces and logs.
key=$(python3 -c 'import secrets; print(secrets.token_hex())')
locked=model-repository,shared-memory,trace,logging
exec tritonserver --model-repository="$repository" --disable-auto-complete-config \
    --http-restricted-api="$locked:fer-key=$key" --grpc-restricted-protocol="$locked:fer-key=$key" "$@"
