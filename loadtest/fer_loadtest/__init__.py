"""Load tests of a server: users over HTTP and gRPC, shapes, thresholds, a report, and the search for its capacity.

    python -m fer_loadtest --shape steps --levels 1,2,4,8       # or soak, spike, arrivals
    python -m fer_loadtest.capacity --p99-ms 200                # the highest rate of arrivals that holds 200 ms
    python -m fer_loadtest.compare before/report.json after/report.json

Locust makes the load (`locustfile.py`), here or in workers elsewhere. Only `processes`, `lead`,
`users` and `shape` import it: Locust makes the standard library of its whole process cooperative. Nothing imports this
package.
"""
