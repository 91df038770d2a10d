"""From a trained ONNX file to a running server.

`fer_build.assemble` makes a servable model repository of it, `fer_build.server` runs that on the embedded Triton, and
`fer_build.serve` is the command `fer-serve`.
"""
