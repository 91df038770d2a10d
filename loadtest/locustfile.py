"""What Locust loads: `locust -f loadtest/locustfile.py --headless --shape steps`, with `--master` or `--worker` too.

`python -m fer_loadtest` does the same with shorter help.
"""

from locust import events

from fer_loadtest import processes
from fer_loadtest.options import add_options
from fer_loadtest.shape import FerShape
from fer_loadtest.users import GrpcLoadUser, HttpLoadUser

__all__ = ["FerShape", "GrpcLoadUser", "HttpLoadUser"]

events.init_command_line_parser.add_listener(lambda parser: add_options(parser))
processes.register()
