"""What can go wrong between an ONNX file and a running server.

FerBuildError
├── ContractError          the ONNX file doesn't fit the contract: export it again
├── FacesFileError         the file of faces can't be used: make it again
├── CalibrationError       the calibration for INT8 can't be made or used
├── GateError              a smaller precision lost too much accuracy, or was never measured
├── PlanError              the TensorRT plan can't be built, or doesn't fit this machine
├── RepositoryError        the model repository can't be made, or isn't one
├── NotInstalledError      something has to be installed on this machine
├── PortTakenError         choose another port
├── LogFileError           choose another file for the server's log
└── ServerFailedError      the server did not start or did not answer: its log says why
"""


class FerBuildError(Exception):
    """Base of all. The message is for people: what was expected, what came, what to do."""


class ContractError(FerBuildError):
    """The ONNX file doesn't fit the contract."""


class FacesFileError(FerBuildError):
    """The file of faces can't be used."""


class CalibrationError(FerBuildError):
    """The calibration for INT8 can't be made or used."""


class GateError(FerBuildError):
    """A smaller precision lost too much accuracy, or was never measured."""


class PlanError(FerBuildError):
    """The TensorRT plan can't be built, or doesn't fit this machine."""


class RepositoryError(FerBuildError):
    """The model repository can't be made, or isn't one."""


class NotInstalledError(FerBuildError):
    """Something has to be installed on this machine."""


class PortTakenError(FerBuildError):
    """A port is used by another program, or wanted twice."""


class LogFileError(FerBuildError):
    """The server's log can't be written."""


class ServerFailedError(FerBuildError):
    """The server did not start, or did not answer."""
