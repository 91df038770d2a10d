#!/bin/sh
# Makes the model repository that the server reads, in an init container of the server's image:
#
#   FER_PROFILE=cpu|gpu FER_CORES=4 [FER_SOURCE=/source] [FER_PLAN_CACHE=/plans] sh prepare.sh
#
# FER_SOURCE is an assembled repository; without one, the image's own ONNX file is assembled for this pod's cores. A GPU
# gets its TensorRT plan here, from the cache if one of the same GPU, TensorRT and model is there. Nothing is trusted for
# its name: fer-build plan builds again what doesn't fit, and the result is verified.
set -eu

models=${FER_MODELS:-/models}
repository=$models/repository
classifier=$repository/fer_classifier/1

if [ -n "${FER_SOURCE:-}" ]; then
    if [ ! -f "$FER_SOURCE/manifest.json" ]; then
        echo "prepare.sh: $FER_SOURCE has no manifest.json: models.path has to be the folder of an assembled repository" >&2
        exit 1
    fi
    rm -rf "$repository"  # of a start before
    cp -R "$FER_SOURCE" "$repository"
    chmod -R u+w "$repository"
else
    fer-build assemble --profile "$FER_PROFILE" --cores "$FER_CORES" --out "$repository"
fi

me=$(uname -n)  # the pod's name: others may write to the cache at the same time

# Copies a plan whole or not at all: its description goes last, and names the hash of the others.
copy_plan() {
    for file in model.plan model.plan.layers.json model.plan.json; do
        cp "$1/$file" "$2/.$file.$me"
        mv "$2/.$file.$me" "$2/$file"
    done
}

if [ "$FER_PROFILE" = gpu ]; then
    cached=
    if [ -n "${FER_PLAN_CACHE:-}" ]; then
        gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
        # A slice of a GPU has the whole one's name, and fewer cores and less memory: `  MIG 1g.10gb     Device  0: (...`
        slice=$(nvidia-smi --list-gpus | sed -n 's/^ *MIG \([^ ]*\) .*/_\1/p' | head -n 1)
        tensorrt=$(python3 -c 'import tensorrt; print(tensorrt.__version__)')
        onnx=$(sha256sum "$classifier/model.onnx" | cut -c 1-16)
        cached=$FER_PLAN_CACHE/$(printf '%s%s_%s_%s' "$gpu" "$slice" "$tensorrt" "$onnx" | tr -c 'A-Za-z0-9._' -)
        if [ -f "$cached/model.plan.json" ]; then
            copy_plan "$cached" "$classifier"
        fi
    fi
    fer-build plan --repository "$repository"
    if [ -n "$cached" ] && ! cmp -s "$classifier/model.plan.json" "$cached/model.plan.json"; then
        mkdir -p "$cached"
        copy_plan "$classifier" "$cached"
    fi
fi

fer-build verify "$repository"
