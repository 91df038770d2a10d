"""`fer-web`: a small stateless service in front of the model server, for browsers and for every language.

    cli         `fer-web`
    server      runs the service with uvicorn, within the limits of a connection
    app         the routes
    guards      what each request passes first: its id, origin, token and rate; what each answer carries
    uploads     reads pictures out of a request body, within limits
    model       asks the model server, within limits, through `AsyncFerClient`
    faces       `POST /v1/faces`
    drawing     faces drawn on their picture
    answers     what the service answers, as types from which the schemas are made
    problems    what can go wrong, as RFC 9457 problem details
    openapi     the description of all of it
    metrics     Prometheus
    static/     the page and the documents

No picture is stored or logged.
"""
