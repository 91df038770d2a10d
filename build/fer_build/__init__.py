"""From a trained ONNX file to a running server.

`fer-build assemble` makes a servable model repository of it, `fer_serve.server` runs that on the embedded Triton, and
`fer_serve.run` is the command `fer-serve`.
"""
