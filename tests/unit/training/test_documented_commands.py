"""The commands of the room's README, run one after the other on tiny data; those of other documents are understood."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from PIL import Image
from small_data import RECIPE_TOML, draw_images, fer_train, write_fer2013

from fer_contract import LABELS
from fer_training.cli import TRAIN
from fer_training.faces import VOTES
from fer_training.recipe import load_recipe

ROOM = Path(__file__).resolve().parents[3] / "training"
README = (ROOM / "README.md").read_text(encoding="utf-8")
NOT_RUN = "# needs "
"""Begins the comment of a command that is only understood: a server, or a package that tests do not have."""


def commands_of(text: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\$ (.*)$", "".join(blocks), re.MULTILINE)


def indented_commands_of(text: str) -> list[str]:
    """Command lines of RESULTS.md and of paragraphs, with what a shell's loop puts in for its variables."""
    lines = re.findall(r"\bfer-train [a-z-]+ (?:[^`\n;\\#]|\\\n)+", text)
    known = {"$recipe": "student", "$runs": "runs/a runs/b", "$run": "a", "$seed": ""}
    for name, value in known.items():
        lines = [line.replace(name, value) for line in lines]
    return sorted({re.sub(r"\\\n\s*", "", line).strip() for line in lines if " --" in line})


def write_tiny(name: str) -> str:
    """A recipe that trains in a second, with the teachers and the start of the real one."""
    real = load_recipe(ROOM / "recipes" / name)
    tiny = (f'starts_from = "{real.starts_from}"\n' if real.starts_from else "") + RECIPE_TOML
    if real.distillation is not None:
        one = real.distillation
        teachers = ", ".join(f'"{teacher}"' for teacher in one.teachers)
        tiny += f"[distillation]\nteachers = [{teachers}]\ntemperature = {one.temperature}\nweight = {one.weight}\n"
        tiny += f'views = "{one.views}"\n'
    return tiny


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A checkout with tiny recipes, a FER2013 of 16 and 14 faces with votes as `DIR`, and 70 faces as `faces`."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "training" / "recipes").mkdir(parents=True)
    for path in (ROOM / "recipes").glob("*.toml"):
        (desk / "training" / "recipes" / path.name).write_text(write_tiny(path.name), encoding="utf-8")
    shutil.copytree(ROOM / "release", desk / "training" / "release")
    (desk / "DIR").mkdir()
    write_fer2013(desk / "DIR", training=16)
    header = "Usage,Image name," + ",".join(VOTES)
    usages = [line.rpartition(",")[2] for line in (desk / "DIR" / "fer2013.csv").read_text().splitlines()[1:]]
    votes = [f"{usage},,{','.join(['1'] * len(VOTES))}" for usage in usages]
    (desk / "DIR" / "fer2013new.csv").write_text("\n".join([header, *votes]), encoding="utf-8")
    for number, image in enumerate(draw_images(70)):
        folder = desk / "faces" / LABELS[number % 7]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"s{number // 7}_{number}.png")
    return desk


def test_the_readme_has_commands_and_names_every_command_of_the_script():
    used = {shlex.split(command)[1] for command in commands_of(README) if command.startswith("fer-train ")}
    assert used | {"add-normalisation", "quality-bounds", "head-model"} == set(TRAIN.subcommands)


@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_run_in_their_order(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    for command in commands_of(README):
        words = shlex.split(command, comments=True)
        if NOT_RUN in command:
            continue
        if words[0] == "cp":
            shutil.copy(*words[1:])
            continue
        assert fer_train(*words[1:]) == 0, (command, capsys.readouterr().err)
    assert (desk / "runs" / "own" / "release" / "fer_classifier.onnx").exists()
    assert (desk / "runs" / "small" / "checkpoint.pt").exists()


class UnderstoodError(Exception):
    """Raised in place of a command's work."""


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            *(command for command in commands_of(README) if NOT_RUN in command),
            *indented_commands_of((ROOM / "RESULTS.md").read_text(encoding="utf-8")),
            *indented_commands_of((ROOM / "MODEL_CARD.md").read_text(encoding="utf-8")),
        }
    ),
)
def test_a_command_that_is_documented_is_understood(monkeypatch, command):
    """It gets as far as its work."""

    def stop(*_: object, **__: object) -> int:
        raise UnderstoodError

    words = shlex.split(command, comments=True)[1:]
    module = TRAIN.subcommands[words[0]].module
    monkeypatch.setattr(f"{module}.run_command", stop)
    with pytest.raises(UnderstoodError):
        fer_train(*words)


def test_a_misspelt_option_would_be_found(capsys):
    with pytest.raises(SystemExit):
        fer_train("run", "--recipe", "a.toml", "--fer2013", "DIR", "--resum")
    assert "did you mean --resume?" in capsys.readouterr().err
