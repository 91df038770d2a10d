"""Load tests of a server: users over HTTP and gRPC, shapes, thresholds, a report, and the search for its capacity.

    cli         `fer-loadtest` with its subcommands run, capacity, compare
    options     everything that a user can choose
    locustfile  what Locust loads: this process alone, a master, or a worker
    master      leads a test through its course and ends it with a report
    course      the levels of a load, and who says how many users there are now
    capacity    the search for the highest rate that holds an objective
    users       Locust's users, and what those of one process share
    transports  the client's requests, carried without threads
    baseline    what the server answers before the load
    checks      whether an answer is the expected one
    recorder    counts by second; histogram holds latencies
    report      the document of a run; page and charts make its HTML by report.html, verdict its sentences

Locust makes the standard library of its whole process cooperative, so only `locustfile`, `master` and `users` import
it. Nothing imports this package.
"""
