"""What Locust loads, here or in a worker: `fer-loadtest` runs `locust -f` with this file."""

from locust import events

from fer_loadtest import processes
from fer_loadtest.options import add_options
from fer_loadtest.shape import FerShape
from fer_loadtest.users import GrpcLoadUser, HttpLoadUser

__all__ = ["FerShape", "GrpcLoadUser", "HttpLoadUser"]

events.init_command_line_parser.add_listener(lambda parser: add_options(parser))  # type: ignore[no-untyped-call]
processes.register()
