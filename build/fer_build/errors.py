"""What can go wrong between an ONNX file and a servable repository, with the exit code that each gives a command.

FerBuildError
├── ContractError           the ONNX file does not fit the contract: export it again
├── FacesFileError          the file of faces cannot be used: make it again
├── RangesError             the ranges for INT8 cannot be measured or used
├── GateError               a smaller precision lost too much accuracy, or was never measured
├── PlanError               the TensorRT plan cannot be built, or does not fit this machine
├── RepositoryError         the model repository cannot be made, or is not one
│   └── ChangedError        the model repository is not as it was assembled
└── NotInstalledError       something has to be installed on this machine
"""

from typing import Final

from fer_commands.exit_codes import ExitCode
from fer_commands.running import DetailedError

EXIT_CODES: Final = (ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.CHECK_FAILED, ExitCode.INTERRUPTED)
"""The codes that the subcommands of `fer-build` end with."""


class FerBuildError(DetailedError):
    """Base of all. The message says what was expected, what came, and what to do."""


class ContractError(FerBuildError):
    """The ONNX file cannot be read, or does not fit the contract."""

    exit_code = ExitCode.USAGE


class FacesFileError(FerBuildError):
    """The file of faces cannot be read, or does not fit the contract."""

    exit_code = ExitCode.USAGE


class RangesError(FerBuildError):
    """The ranges for INT8 cannot be measured, read, or used for this file."""

    exit_code = ExitCode.USAGE


class GateError(FerBuildError):
    """A smaller precision lost too much accuracy, or was never measured."""

    exit_code = ExitCode.CHECK_FAILED


class PlanError(FerBuildError):
    """The TensorRT plan cannot be built, or does not fit this machine."""


class RepositoryError(FerBuildError):
    """The model repository cannot be made, or is not one."""

    exit_code = ExitCode.USAGE


class ChangedError(RepositoryError):
    """The model repository is not as it was assembled."""

    exit_code = ExitCode.CHECK_FAILED


class NotInstalledError(FerBuildError):
    """Something has to be installed on this machine."""
