"""`fer-train`."""

from __future__ import annotations

from typing import Final

from fer_commands.scripts import Script, Subcommand

TRAIN: Final = Script(
    name="fer-train",
    description="Train, measure and export the expression classifier.",
    subcommands={
        "report-data": Subcommand("report what a data set holds, what is dropped, and why", "fer_training.report_data"),
        "run": Subcommand("train a classifier by a recipe", "fer_training.train"),
        "evaluate": Subcommand("measure a checkpoint, an ONNX file or a running server", "fer_training.evaluate"),
        "export": Subcommand("turn a checkpoint into a calibrated ONNX file", "fer_training.export"),
        "compare": Subcommand("compare two classifiers on the same faces", "fer_training.compare"),
        "robustness": Subcommand("measure a classifier on damaged copies of faces", "fer_training.robustness"),
        "summarise": Subcommand("mean and spread of several runs", "fer_training.summarise"),
        "soup": Subcommand("average the weights of several runs", "fer_training.soup"),
        "prune": Subcommand("take away channels of a network, and train it on", "fer_training.prune"),
        "save-logits": Subcommand("keep a teacher's answers for its students", "fer_training.teacher_logits"),
        "save-weights": Subcommand("keep a run's weights in a third of its size", "fer_training.checkpoint"),
        "save-faces": Subcommand("write the faces that fer-build works with", "fer_training.save_faces"),
        "convert-dlib": Subcommand("read dlib's weights, for recipes to start from", "fer_training.dlib_weights"),
        "add-normalisation": Subcommand(
            "even out light and sharpness before a released network", "fer_training.add_normalisation"
        ),
        "quality-bounds": Subcommand(
            "measure what bounds of a face's quality do to answers", "fer_training.quality_bounds"
        ),
        "head-model": Subcommand("fit the head that yaw and pitch come from", "fer_training.head_model"),
        "tables": Subcommand("print a release's figures as Markdown", "fer_training.tables"),
    },
    extra="train",
    examples="""\
  fer-train run --recipe training/recipes/own.toml --folder faces
  fer-train export --checkpoint runs/own/checkpoint.pt --folder faces --out runs/own/release
  fer-train COMMAND --help        options and examples of a command""",
)

main = TRAIN.main
