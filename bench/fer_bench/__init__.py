"""Benchmarks of serving: against the same functions without a server, against other frameworks, stage by stage.

    python -m fer_bench.ceiling      # the server beside as many processes as there are cores
    python -m fer_bench.frameworks   # beside FastAPI, LitServe, BentoML and MLServer
    python -m fer_bench.stages       # where the time goes
    python -m fer_bench.tune         # instance counts and queue delay

All compare within one run, in turns, because machines are shared and noisy. Nothing imports this package.
"""
