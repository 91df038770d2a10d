"""The console scripts that need more than the base installation, each started by its name.

The modules behind them import what an extra brings. So a script looks first whether it can be loaded, and says in one
line how to install what is missing, instead of showing a traceback. Standard library only; it imports no room until a
script runs.
"""

import importlib
import sys

_FAILED = 1


def serve() -> int:
    """Run `fer-serve`."""
    return _run("fer-serve", "fer_build.serve", "serve")


def loadtest() -> int:
    """Run `fer-loadtest`."""
    return _run("fer-loadtest", "fer_loadtest.__main__", "loadtest")


def _run(script: str, module: str, extra: str) -> int:
    """Load the module behind a script and run its `main`.

    Args:
        script: as the user typed it.
        module: what has the command's `main`.
        extra: the extra of the distribution that brings what the module imports.

    Returns:
        The command's exit code, or 1 where something that it needs is not installed.
    """
    try:
        command = importlib.import_module(module)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{script}: {error.name} is not installed: pip install 'fer-triton[{extra}]'\n")
        return _FAILED
    code: int = command.main()
    return code
