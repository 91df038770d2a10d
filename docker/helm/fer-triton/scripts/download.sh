#!/bin/sh
# Fetches a model repository from a bucket, in an init container of the rclone image:
#
#   FER_SOURCE=models:BUCKET/PATH [FER_TARGET=/source/repository] sh download.sh
#
# The manifest is asked for first: a wrong path is an error at once, and not after everything else in the bucket has been
# fetched.
set -eu

target=${FER_TARGET:-/source/repository}

if ! found=$(rclone lsf "$FER_SOURCE/manifest.json"); then
    echo "download.sh: $FER_SOURCE cannot be read, for the reason above: check models.s3 and models.path" >&2
    exit 1
fi
if [ "$found" != manifest.json ]; then
    echo "download.sh: $FER_SOURCE has no manifest.json: models.path has to be the folder of an assembled repository" >&2
    exit 1
fi
rclone sync "$FER_SOURCE" "$target"
