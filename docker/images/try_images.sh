#!/usr/bin/env bash
# Builds the images that need no GPU, and runs them as compose.yaml does, but without any network. Prints what it tries, with
# sizes and times; ends with exit code 1 at the first thing that isn't as it should be.
#
#   docker/images/try_images.sh
#   ENGINE=podman BASE=debootstrap docker/images/try_images.sh      # without Docker, without a registry
#
# ENGINE     docker or podman, options behind it welcome: ENGINE="podman --root /tmp/images"
# BASE       another place of debian:bookworm-slim (registry.example.com/debian), or debootstrap, which makes it as root
# PIP_CONF   a pip.conf, and CA_FILE certificates, for building only
# shellcheck disable=SC2016  # what is in single quotes is for the container's shell
set -euo pipefail
cd "$(dirname "$0")/../.."

read -ra engine <<< "${ENGINE:-docker}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
server=fer-try-$$
work=$(mktemp --directory)
trap clean_up EXIT

clean_up() {
    "${engine[@]}" rm --force "$server" > "$work/removed" 2>&1 || true
    "${engine[@]}" volume rm --force "$server" > "$work/removed" 2>&1 || true
    rm -rf "$work"
}

say() { printf '%6s s  %s\n' "$SECONDS" "$*"; }

# expect WHAT COMMAND...: the command succeeds.
expect() {
    local what=$1
    shift
    if ! "$@" > "$work/output" 2>&1; then
        cat "$work/output" >&2
        echo "try_images: $what: FAILED" >&2
        exit 1
    fi
    say "$what"
}

build_arguments=(--file docker/Dockerfile)
if [ "${engine[0]}" = podman ]; then
    build_arguments+=(--format docker)  # OCI's own format has no health check
fi
if [ "${BASE:-}" = debootstrap ]; then
    expect "made the base image of Debian's packages" debootstrap --variant=minbase bookworm "$work/debian"
    rm -rf "$work"/debian/{usr/share/{doc,man,locale,info},var/cache/apt,var/lib/apt/lists}/*
    tar --create --directory "$work/debian" . | "${engine[@]}" import - localhost/debian:bookworm-slim > "$work/output"
    rm -rf "$work/debian"
    BASE=localhost/debian
fi
if [ -n "${BASE:-}" ]; then
    build_arguments+=(--build-arg "DEBIAN_IMAGE=$BASE")
fi
if [ -n "${CA_FILE:-}" ]; then
    build_arguments+=(--secret "id=ca,src=$CA_FILE")
    if [ -z "${PIP_CONF:-}" ]; then
        PIP_CONF=$work/pip.conf
        printf '[global]\ncert = /run/secrets/ca\n' > "$PIP_CONF"
    fi
fi
if [ -n "${PIP_CONF:-}" ]; then
    build_arguments+=(--secret "id=pip,src=$PIP_CONF")
fi

build() {
    expect "built $2" "${engine[@]}" build "${build_arguments[@]}" --target "$1" --tag "$2" .
    say "$2: $("${engine[@]}" image inspect --format '{{.Size}}' "$2" | awk '{printf "%.0f MB", $1 / 1e6}')"
}

build cpu "fer-triton:$version-cpu"
build client "fer-client:$version"
build loadtest "fer-loadtest:$version"

restricted=(--read-only --cap-drop ALL --security-opt no-new-privileges --shm-size 1g --tmpfs "/tmp:size=512m,mode=1777")
if [ "${engine[0]}" = podman ]; then
    restricted+=(--read-only-tmpfs=false)  # it would add more places to write to than Docker does
fi
# Runs a program in a container of its own, which shares the server's network once there is one.
run() { "${engine[@]}" run --rm "${restricted[@]}" "$@"; }
inside() { "${engine[@]}" exec "$server" "$@"; }

expect "the init step of the chart and of compose.yaml makes and verifies a repository" \
    run --network none --volume "$server:/models" --env FER_PROFILE=cpu --env FER_CORES=2 --entrypoint sh \
    --volume "$PWD/docker/helm/fer-triton/scripts:/scripts:ro" "fer-triton:$version-cpu" /scripts/prepare.sh

# Without a network but its own: nothing can be downloaded.
"${engine[@]}" run --detach --name "$server" --network none "${restricted[@]}" "fer-triton:$version-cpu" --exit-timeout=20 \
    > "$work/output"
started=$SECONDS
expect "the server starts" inside fer-client health --wait 120
say "it answered $((SECONDS - started)) s after its start"
if [ "${engine[0]}" = podman ]; then
    expect "the image's health check passes" "${engine[@]}" healthcheck run "$server"
else
    expect "the image's health check passes" timeout 60 sh -c \
        "until ${engine[*]} inspect --format '{{.State.Health.Status}}' $server | grep -qx healthy; do sleep 1; done"
fi
expect "the chart's probe passes" "${engine[@]}" exec --interactive "$server" sh -c \
    'python3 -I -S - --manifest /tmp/fer-repository-*/repository/manifest.json' < docker/helm/fer-triton/scripts/probe.py
# 127.0.0.2 is this container's too, but isn't 127.0.0.1.
expect "all three ports are open on every address of its container" inside python3 -c \
    'import socket; [socket.create_connection(("127.0.0.2", port), 2) for port in (8000, 8001, 8002)]'
expect "it is user 10001" inside sh -c '[ "$(id -u):$(id -g)" = 10001:10001 ]'
expect "it can write to /tmp and /dev/shm only" inside sh -c \
    'touch /tmp/x /dev/shm/x && for f in / /opt/fer /opt/venv /models /plans /var/tmp /run; do ! touch $f/x || exit; done'
expect "no compiler, no installer, no downloader" inside sh -c \
    'for p in gcc cc g++ make ld pip pip3 git curl wget; do ! command -v $p || exit; done; ! python3 -c "import pip"'
expect "the client finds the face" run --network "container:$server" --volume "$PWD/examples:/pictures:ro" \
    "fer-client:$version" predict /pictures/astronaut.png
grep -q happy "$work/output" || { cat "$work/output" >&2; exit 1; }
sed 's/^/          /' "$work/output"
expect "the load test passes" run --network "container:$server" --env FER_URL=http://localhost:8000 \
    "fer-loadtest:$version" --shape arrivals --rates 2 --level-s 8 --max-error-percent 0
expect "Triton is killed" inside python3 -c 'import os, pathlib
for name in pathlib.Path("/proc").glob("[0-9]*/comm"):
    if name.read_text() == "tritonserver\n":
        os.kill(int(name.parent.name), 9)'
expect "another takes its place" inside fer-client health --wait 60
expect "nothing is left of the first" inside sh -c '! grep --files-with-matches "^State:.*zombie" /proc/[0-9]*/status'
"${engine[@]}" kill --signal TERM "$server" > "$work/output"
status=$(timeout 40 "${engine[@]}" wait "$server")
expect "it stops on SIGTERM, with status 0" [ "$status" = 0 ]
expect "in order" sh -c "${engine[*]} logs $server 2>&1 | grep -x 'fer-serve: stopped'"
