"""The baseline of a load test: what the server answers to each picture before the load, one after the other.

Under load it has to answer the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import fer_contract as contract
from fer_client import AuthenticationError, FerClient, FerClientError, ImageRefusedError, ServerUnreachableError
from fer_commands.exit_codes import ExitCode
from fer_commands.running import CommandError
from fer_loadtest.checks import Expected
from fer_loadtest.options import Options
from fer_loadtest.pictures import Picture, describe_left_out, kind_by_content, make_pictures, read_folder
from fer_loadtest.transports import ServedModel, Settings

_RETRIES: Final = 5
"""The baseline is no load: a server that is busy with another client for a second does not end the test."""


@dataclass
class Baseline:
    """What a load test knows of the server and of its own pictures before the load begins.

    Attributes:
        served: What the server says about `fer`.
        pictures: All pictures, each of the kind that the server's answer puts it in.
        expected: The right answer to each picture, by its name.
        server: What the server says about itself, in plain values.
        notes: Oddities for the report.
    """

    served: ServedModel
    pictures: list[Picture]
    expected: dict[str, Expected]
    server: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def combine(
        cls, served: ServedModel, answers: Mapping[str, Expected], pictures: Sequence[Picture], *, is_users_own: bool
    ) -> Baseline:
        """Combine the server's answers with the pictures of this machine.

        Args:
            served: What the server says about `fer`.
            answers: What it answered, by digest of the picture.
            pictures: Pictures of this machine.
            is_users_own: Whether only the answers say what is in the pictures.

        Raises:
            CommandError: One of the pictures has no answer.
        """
        known, expected = [], {}
        for picture in pictures:
            if picture.digest not in answers:
                raise CommandError(
                    f"{picture.name} is not among the master's pictures: workers need the same --pictures folder, and "
                    "without one the same versions of Pillow and NumPy"
                )
            answer = expected[picture.name] = answers[picture.digest]
            kind = kind_by_content(answer.faces, answer.width, answer.height) if is_users_own else picture.kind
            known.append(replace(picture, kind=kind))
        return cls(served, known, expected)

    def to_plain(self) -> dict[str, Any]:
        """Return what workers need to know, in plain values."""
        served = self.served
        return {
            "served": [list(served.labels), served.version, served.tells_faces_found, list(served.quality_columns)],
            "answers": {one.digest: list(astuple(self.expected[one.name])) for one in self.pictures},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], options: Options) -> Baseline:
        """Return a worker's baseline, from the master's `to_plain`. Raises CommandError as `combine` does."""
        answers = {digest: Expected(*answer) for digest, answer in plain["answers"].items()}
        served = _served(*plain["served"])
        return cls.combine(served, answers, pictures_of(options), is_users_own=options.pictures is not None)


def pictures_of(options: Options) -> list[Picture]:
    """Return the pictures that the options ask for, from this machine. Raises CommandError."""
    return read_folder(Path(options.pictures)) if options.pictures else make_pictures()


def measure_baseline(options: Options) -> Baseline:
    """Ask the server about itself, and for an answer to each picture over the first protocol.

    Where there is a second protocol, its health is asked for once.

    Raises:
        CommandError: No server answers, it serves something else, or there are no pictures.
    """
    pictures = pictures_of(options)
    answers = {}
    notes = [left_out] if options.pictures and (left_out := describe_left_out(Path(options.pictures))) else []
    tells_faces_found = False
    try:
        for protocol in reversed(options.protocols):
            with _client(options.connections[protocol]) as client:
                client.check_health()
                if protocol != options.protocols[0]:
                    continue
                info = client.describe()
                for picture in pictures:
                    answers[picture.digest] = answer = _ask(client, picture)
                    tells_faces_found |= answer.found is not None
                    if None not in (picture.faces, answer.faces) and picture.faces != answer.faces:
                        notes.append(f"{picture.name}: {picture.faces} faces drawn, the server finds {answer.faces}")
    except FerClientError as error:
        raise CommandError(str(error), _exit_code(error)) from error
    if all(answer.faces is None for answer in answers.values()):
        raise CommandError("the server refuses every picture: none of them can be a load", ExitCode.REFUSED)
    served = _served(info.labels, info.model_version, tells_faces_found, info.quality_columns)
    baseline = Baseline.combine(served, answers, pictures, is_users_own=options.pictures is not None)
    baseline.notes = notes
    baseline.server = {
        "url": " and ".join(options.connections[protocol].endpoint.url for protocol in options.protocols),
        "software": f"{info.name} {info.version}",
        "model_version": info.model_version,
        "outputs": list(served.output_shapes),
    }
    return baseline


def _served(
    labels: Sequence[str], version: str, tells_faces_found: bool, quality_columns: Sequence[str]
) -> ServedModel:
    return ServedModel(
        contract.FER_MODEL,
        tuple(labels),
        version,
        tells_faces_found=tells_faces_found,
        quality_columns=tuple(quality_columns),
    )


def _ask(client: FerClient, picture: Picture) -> Expected:
    try:
        return Expected.of(client.infer(picture.content))
    except ImageRefusedError:
        return Expected(None)


def _client(settings: Settings) -> FerClient:
    token = settings.headers.get("authorization", "").removeprefix("Bearer ") or None
    return FerClient(
        settings.endpoint.url, timeout_s=settings.timeout_s, retries=_RETRIES, tls=settings.tls, token=token
    )


def _exit_code(error: FerClientError) -> ExitCode:
    if isinstance(error, ServerUnreachableError):
        return ExitCode.UNREACHABLE
    return ExitCode.FORBIDDEN if isinstance(error, AuthenticationError) else ExitCode.FAILED
