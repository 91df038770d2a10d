"""The pass before the load: each picture once, one after the other, to learn what the right answers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import fer_contract as contract
from fer_client import FerClient, FerClientError, ImageRefusedError
from fer_client.protocol import ServedModel, Settings
from fer_loadtest.answers import Expected
from fer_loadtest.errors import LoadTestError, PicturesError
from fer_loadtest.options import Options
from fer_loadtest.pictures import Picture, describe_left_out, kind_by_content, make_pictures, read_folder

_RETRIES: Final = 5
"""The pass is no load; a server that is busy with somebody else's for a second does not end it."""


class Lesson:
    """What a load test knows of the server and of its own pictures before it begins.

    Attributes:
        served: What the server says about `fer`.
        pictures: All of them, each under the kind that the server's answer puts it in.
        expected: The right answer to each, by the picture's name.
        server: What the server says about itself, plain values.
        notes: What is odd.
    """

    def __init__(
        self,
        served: ServedModel,
        answers: Mapping[str, Expected],
        pictures: Sequence[Picture],
        *,
        is_users_own: bool,
    ) -> None:
        """Combine what the server says with the pictures of this machine.

        Args:
            served: What the server says about `fer`.
            answers: What it answered, by the digest of the picture.
            pictures: Of this machine.
            is_users_own: Whether nobody knows what is in them but from the answers.

        Raises:
            PicturesError: There is no answer to one of the pictures.
        """
        self.served = served
        self.server: dict[str, Any] = {}
        self.notes: list[str] = []
        self.pictures: list[Picture] = []
        self.expected: dict[str, Expected] = {}
        for picture in pictures:
            if picture.digest not in answers:
                raise PicturesError(
                    f"{picture.name} is not among the master's pictures: workers need the same --pictures folder, and "
                    "without one the same versions of Pillow and NumPy"
                )
            answer = answers[picture.digest]
            self.expected[picture.name] = answer
            kind = kind_by_content(answer.faces, answer.width, answer.height) if is_users_own else picture.kind
            self.pictures.append(replace(picture, kind=kind))

    def to_plain(self) -> dict[str, Any]:
        """For workers: what the server says, and its answers."""
        answers = {
            one.digest: [self.expected[one.name].faces, self.expected[one.name].width, self.expected[one.name].height]
            for one in self.pictures
        }
        served = [self.served.name, list(self.served.labels), self.served.version, self.served.uncertain_below]
        return {"served": served, "answers": answers}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], options: Options) -> Lesson:
        """What a worker knows, from the master's `to_plain`. Raises as the constructor."""
        name, labels, version, uncertain_below = plain["served"]
        answers = {digest: Expected(*answer) for digest, answer in plain["answers"].items()}
        served = ServedModel(name, tuple(labels), version, uncertain_below)
        return cls(served, answers, pictures_of(options), is_users_own=options.pictures is not None)


def pictures_of(options: Options) -> list[Picture]:
    """The pictures that the options ask for, from this machine. Raises PicturesError."""
    return read_folder(Path(options.pictures)) if options.pictures else make_pictures()


def learn(options: Options) -> Lesson:
    """Ask the server about itself, and each picture once over the first protocol. The other one is asked once too.

    Raises:
        LoadTestError: No server answers, it serves something else, or there are no pictures.
    """
    pictures = pictures_of(options)
    answers = {}
    notes = [left_out] if options.pictures and (left_out := describe_left_out(Path(options.pictures))) else []
    try:
        for protocol in reversed(options.protocols):
            with _client(options.connections[protocol]) as client:
                client.check_health()
                if protocol != options.protocols[0]:
                    continue
                info = client.describe()
                for picture in pictures:
                    answers[picture.digest] = answer = _ask(client, picture)
                    if None not in (picture.faces, answer.faces) and picture.faces != answer.faces:
                        notes.append(f"{picture.name}: {picture.faces} faces drawn, the server finds {answer.faces}")
    except FerClientError as error:
        raise LoadTestError(str(error)) from error
    served = ServedModel(contract.FER_MODEL, info.labels, info.model_version, info.uncertain_below)
    lesson = Lesson(served, answers, pictures, is_users_own=options.pictures is not None)
    if all(answer.faces is None for answer in answers.values()):
        raise PicturesError("the server refuses every picture: none of them can be a load")
    lesson.notes = notes
    lesson.server = {
        "url": " and ".join(options.connections[protocol].endpoint.url for protocol in options.protocols),
        "software": f"{info.name} {info.version}",
        "model_version": info.model_version,
    }
    return lesson


def _ask(client: FerClient, picture: Picture) -> Expected:
    try:
        tensors = client.infer(picture.content)
    except ImageRefusedError:
        return Expected(None)
    width, height = tensors[contract.IMAGE_SIZE].tolist()
    return Expected(len(tensors[contract.BOXES]), width, height)


def _client(settings: Settings) -> FerClient:
    token = settings.headers.get("authorization", "").removeprefix("Bearer ") or None
    return FerClient(
        settings.endpoint.url, timeout_s=settings.timeout_s, retries=_RETRIES, tls=settings.tls, token=token
    )
