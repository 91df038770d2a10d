"""Benchmarks of serving: `python -m fer_bench --help`.

All compare within one run, in turns, because machines are shared and noisy. Nothing but `fer_sizing`, which measures
what an image costs, imports this package.
"""
