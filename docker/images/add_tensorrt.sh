#!/bin/sh
# Gives the GPU image TensorRT's Python module, while it is built. NVIDIA's Triton image has the library without it, and the
# package `tensorrt` would bring a second library: a plan would be built by another TensorRT than the one that serves it.
set -eu

if python3 -c 'import tensorrt' 2>/dev/null; then
    exit
fi
version=$(python3 -m fer_build.tensorrt_flavours nvinfer libnvinfer.so.11 libnvinfer.so.10)
if [ -z "$version" ]; then
    echo "add_tensorrt: there is no libnvinfer in this image: build on NVIDIA's Triton image, nvcr.io/nvidia/tritonserver" >&2
    exit 1
fi
# `.*` admits 10.14.1.48.post1, a second wheel of the same TensorRT.
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-deps "tensorrt-cu13-bindings==$version.*"
bindings=$(python3 -c 'import importlib.util; print(importlib.util.find_spec("tensorrt_bindings").submodule_search_locations[0])')
ln -s tensorrt_bindings "$(dirname "$bindings")/tensorrt"  # its name in the package `tensorrt`
