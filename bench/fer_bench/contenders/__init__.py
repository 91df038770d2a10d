"""The pipeline behind other frameworks, each written as its own documentation shows.

All run as many worker processes as there are cores, take the encoded image as the body of a POST, and answer JSON.
`fer_bench.frameworks` puts this folder on PYTHONPATH and runs them as modules of their own, with `fer_bench.pipeline`
of whatever checkout is compared.
"""
