"""Training of the expression classifier: FER2013's CSV in, a calibrated ONNX file with its figures out.

`cli` lists the commands of `fer-train`; the first three to use are `run`, `evaluate` and `export`.
The ONNX file and the metadata inside it are all that leaves this room; nothing here runs in the server.
"""
