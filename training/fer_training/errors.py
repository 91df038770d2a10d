"""Errors of the training room, one class per remedy. Raised everywhere in `fer_training`, printed by the commands.

TrainingRoomError
├── DataError         correct the data file and row it names
├── RecipeError       correct the recipe's field it names
├── CheckpointError   choose another checkpoint, another --out, or --resume
├── ModelFileError    the ONNX file is not one of this project's, or came out different from the network
└── MatplotlibMissingError   install it, or leave the pictures out
"""


class TrainingRoomError(Exception):
    """Base of all errors that a user of the training commands can put right."""


class DataError(TrainingRoomError):
    """A data file is missing or has a row that cannot be used."""


class RecipeError(TrainingRoomError):
    """A recipe is missing, or one of its fields is."""


class CheckpointError(TrainingRoomError):
    """A checkpoint is missing, unreadable, or belongs to another run."""


class ModelFileError(TrainingRoomError):
    """An ONNX file does not fit the contract, or does not compute what the network computes."""


class MatplotlibMissingError(TrainingRoomError):
    """A picture is asked for, and matplotlib is not installed."""
