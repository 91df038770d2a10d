"""The parameters of `fer_preprocess` that say how faces are searched, as options of the commands that assemble."""

import argparse
from collections.abc import Mapping
from typing import Final

from fer_build.errors import RepositoryError
from fer_detector import NETWORKS
from fer_search import SearchSettings

PARAMETERS: Final = {
    "detector": str,
    "detector_side_px": int,
    "detector_second_look_px": int,
    "detector_min_score": float,
}
"""Their names, with the types of their values."""


def check_detector(parameters: Mapping[str, int | float | str]) -> None:
    """Check parameters of the detector.

    Raises:
        RepositoryError: A parameter is unknown, or has a value that makes no sense; the message says which.
    """
    unknown = parameters.keys() - PARAMETERS.keys()
    if unknown:
        raise RepositoryError(f"{', '.join(sorted(unknown))}: a detector has {', '.join(PARAMETERS)}")
    if parameters.get("detector", NETWORKS[0]) not in NETWORKS:
        raise RepositoryError(f"detector must be one of {', '.join(NETWORKS)}, not {parameters['detector']}")
    settings = {name.removeprefix("detector_"): value for name, value in parameters.items() if name != "detector"}
    try:
        SearchSettings(**settings)  # type: ignore[arg-type]  # their types are those of PARAMETERS
    except ValueError as error:
        raise RepositoryError(f"the detector's parameters make no sense: {error}") from None


def add_detector_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each of `PARAMETERS`; `read_detector_options` reads them."""
    defaults = SearchSettings()
    group = parser.add_argument_group("how faces are searched (what each costs and finds: bench/README.md)")
    group.add_argument("--detector", choices=NETWORKS, help=f"the network; default: {NETWORKS[0]}")
    group.add_argument(
        "--detector-side-px",
        type=int,
        metavar="PX",
        help=f"the first look's longest side; default: {defaults.side_px}",
    )
    group.add_argument(
        "--detector-second-look-px",
        type=int,
        metavar="PX",
        help="width times height of a second look, where the first shows no face or only small ones; 0: none; "
        f"default: {defaults.second_look_px}",
    )
    group.add_argument(
        "--detector-min-score",
        type=float,
        metavar="SCORE",
        help=f"what a doubtful face must have when it is looked at closely; default: {defaults.min_score:g}",
    )


def read_detector_options(options: argparse.Namespace) -> dict[str, int | float | str]:
    """Return the parameters that were given."""
    given = {name: getattr(options, name) for name in PARAMETERS}
    return {name: value for name, value in given.items() if value is not None}
