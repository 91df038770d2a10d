"""Training of the expression classifier: FER2013's CSV in, a calibrated ONNX file with its figures out.

Three commands, in the order of use: `fer_training.train`, `fer_training.evaluate`, `fer_training.export`.
The ONNX file and the metadata inside it are all that leaves this room; nothing here runs in the server.
"""
