"""The command `fer-build`: its subcommands, and the module behind each."""

from typing import Final

from fer_commands.scripts import Script, Subcommand

SCRIPT: Final = Script(
    name="fer-build",
    description="Turn a trained ONNX file into smaller precisions, TensorRT plans, and a servable model repository.",
    subcommands={
        "calibrate": Subcommand("measure the ranges of a classifier's features, which INT8 needs", "fer_build.int8"),
        "quantize": Subcommand("make an FP16 or INT8 file that keeps the accuracy", "fer_build.quantize"),
        "assemble": Subcommand("make a model repository of an ONNX file", "fer_build.assemble"),
        "plan": Subcommand("build a TensorRT plan of an ONNX file", "fer_build.plan"),
        "verify": Subcommand("check a model repository before it is served", "fer_build.verify"),
        "tables": Subcommand("print what the released precisions keep of the accuracy", "fer_build.precision_table"),
        "detector": Subcommand("write the face detector's network as an ONNX file", "fer_build.detector"),
    },
    extra="build",
    examples=(
        "  fer-build quantize --precision int8 --onnx FILE --faces faces/validation.npz\n"
        "  fer-build assemble --out repository                 # of the released classifier, for this machine\n"
        "  fer-build verify repository"
    ),
)

main = SCRIPT.main
