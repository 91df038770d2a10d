"""Errors of the training room, one class per remedy. Raised everywhere in `fer_training`, printed by the commands.

TrainingRoomError
├── DataError         correct the data file and row it names
├── RecipeError       correct the recipe's field, or the option, that it names
├── CheckpointError   choose another checkpoint or teacher's file, another --out, or --resume
├── OutputExistsError give another --out, or --force or --resume
├── ModelFileError    the ONNX file is not one of this project's, or came out different from the network
└── MatplotlibMissingError   install it, or leave the pictures out
"""

from fer_commands.exit_codes import ExitCode


class TrainingRoomError(Exception):
    """Base of all errors that a user of the training commands can put right."""

    exit_code: ExitCode = ExitCode.USAGE
    """What a command ends with; see `fer_commands.running.run_command`."""


class DataError(TrainingRoomError):
    """A data file is missing or has a row that cannot be used."""


class RecipeError(TrainingRoomError):
    """A recipe is missing or wrong, or asks for what the data, the machine or the training does not give."""


class CheckpointError(TrainingRoomError):
    """A checkpoint, or a teacher's file, is missing, unreadable, of something else, or unfit for what is asked."""


class OutputExistsError(TrainingRoomError):
    """A file that would be written exists already, and is not overwritten unasked."""


class ModelFileError(TrainingRoomError):
    """An ONNX file does not fit the contract, or does not compute what the network computes."""


class ParityError(ModelFileError):
    """A new ONNX file does not compute what the network computes."""

    exit_code = ExitCode.CHECK_FAILED


class MatplotlibMissingError(TrainingRoomError):
    """A picture is asked for, and matplotlib is not installed."""

    exit_code = ExitCode.FAILED
