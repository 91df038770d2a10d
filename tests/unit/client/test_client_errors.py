import os
import pickle

import pytest

import fer_client
from fer_client import (
    AuthenticationError,
    ContractError,
    FerClientError,
    ImageRefusedError,
    ImageUnreadableError,
    MissingExtraError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client._errors import class_of_code, error_of_status
from fer_commands.exit_codes import ExitCode


def tree(error_class):
    """All classes below a class."""
    return [below for direct in error_class.__subclasses__() for below in (direct, *tree(direct))]


ERRORS = tree(FerClientError)
ABOUT_A_SERVER = [error_class for error_class in ERRORS if error_class is not ImageUnreadableError]


@pytest.mark.parametrize("error_class", ABOUT_A_SERVER)
def test_every_error_names_the_server_and_the_reason_and_can_be_pickled(error_class):
    error = error_class("http://triton:8000", "it rains", is_temporary=True)
    assert "http://triton:8000" in str(error)
    assert "it rains" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.url, copy.reason) == (error_class, str(error), error.url, error.reason)
    assert copy.is_temporary


def test_an_unreadable_image_is_named_and_an_os_error_and_can_be_pickled():
    error = ImageUnreadableError("photo.jpg", "No such file or directory", 2)
    copy = pickle.loads(pickle.dumps(error))
    for each in (error, copy):
        assert isinstance(each, FerClientError)
        assert isinstance(each, OSError)
        assert str(each) == "cannot read photo.jpg: No such file or directory"
        assert (each.image, each.filename, each.errno, each.strerror) == ("photo.jpg", "photo.jpg", 2, each.reason)
        assert not each.is_temporary


def test_a_file_name_that_is_no_text_still_makes_a_line():
    error = ImageUnreadableError(os.fsdecode(b"caf\xe9.jpg"), "gone")
    assert str(error) == "cannot read caf\N{REPLACEMENT CHARACTER}.jpg: gone"


def test_every_error_is_public_and_drawn_in_the_tree():
    for error_class in ERRORS:
        assert error_class.__name__ in fer_client.__all__
        assert f"── {error_class.__name__} " in fer_client._errors.__doc__


def test_every_error_has_an_exit_code_and_a_word_of_its_own_for_programs():
    assert {error_class.__name__: (error_class.kind, error_class.exit_code) for error_class in ERRORS} == {
        "AuthenticationError": ("forbidden", ExitCode.FORBIDDEN),
        "ContractError": ("contract", ExitCode.FAILED),
        "ImageRefusedError": ("refused", ExitCode.REFUSED),
        "ImageUnreadableError": ("unreadable", ExitCode.USAGE),
        "RequestTimeoutError": ("timeout", ExitCode.FAILED),
        "ServerError": ("failed", ExitCode.FAILED),
        "ServerOverloadedError": ("overloaded", ExitCode.FAILED),
        "ServerUnreachableError": ("unreachable", ExitCode.UNREACHABLE),
        "TlsError": ("tls", ExitCode.UNREACHABLE),
    }
    assert len({error_class.kind for error_class in ERRORS}) == len(ERRORS)
    assert MissingExtraError.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        (400, ImageRefusedError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, ContractError),
        (413, ImageRefusedError),
        (429, ServerOverloadedError),
        (500, ServerError),
        (502, ServerUnreachableError),
        (503, ServerOverloadedError),
        (504, RequestTimeoutError),
        ("INVALID_ARGUMENT", ImageRefusedError),
        ("RESOURCE_EXHAUSTED", ImageRefusedError),
        ("UNAUTHENTICATED", AuthenticationError),
        ("PERMISSION_DENIED", AuthenticationError),
        ("NOT_FOUND", ContractError),
        ("UNIMPLEMENTED", ContractError),
        ("INTERNAL", ServerError),
    ],
)
def test_statuses_and_codes_mean_errors(code, error_class):
    assert class_of_code(code, asks_about_image=True) is error_class
    without_image = ContractError if error_class is ImageRefusedError else error_class
    assert class_of_code(code, asks_about_image=False) is without_image


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 503, 504])
def test_only_a_restart_and_a_full_queue_are_temporary(status):
    error = error_of_status("", status, "words", asks_about_image=True, from_triton=True, tls=False)
    assert error.is_temporary == (status in (502, 503))


def test_an_unreachable_server_comes_with_how_to_start_one():
    assert "start one with `fer-serve`" in str(ServerUnreachableError("http://localhost:8000", "refused"))


def test_a_traceback_from_the_server_is_cut_to_its_first_line_and_kept_in_the_reason():
    error = ServerError("http://localhost:8000", "\nboom\n\nAt:\n  model.py(12): execute\n")
    assert str(error) == "http://localhost:8000 failed: boom; its log says more"
    assert "model.py(12)" in error.reason


@pytest.mark.parametrize("prefix", ["", "in ensemble 'fer', ", "[request id: <id_unknown>] in ensemble 'fer', "])
def test_what_triton_puts_before_the_models_own_words_is_left_out(prefix):
    error = ImageRefusedError("http://localhost:8000", f"{prefix}IMAGE: there are no bytes")
    assert str(error) == "http://localhost:8000 refused the image: IMAGE: there are no bytes"


def test_a_server_that_gives_no_reason_still_makes_a_sentence():
    assert str(ImageRefusedError("http://localhost:8000", "")).endswith("refused the image: no reason given")


def test_braces_in_a_reason_are_left_alone():
    assert '{"a": 1}' in str(ServerError("http://localhost:8000", 'got {"a": 1}'))
