"""What can go wrong between an ONNX file and a running server.

FerBuildError
├── ContractError          the ONNX file doesn't fit the contract: export it again
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
