"""`fer-train compare`: compare two classifiers on the same labelled faces.

Both are measured as `evaluate` does, on the same images, so the difference is known far better than either accuracy:
overlapping intervals of two accuracies say nothing about it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_contract import LABELS
from fer_training.evaluate import EXIT_CODES, server_url
from fer_training.metrics import (
    Floats,
    Interval,
    Labels,
    negative_log_likelihoods,
    percentile_interval,
    resampled_sums,
)
from fer_training.prediction import predict
from fer_training.sources import add_source_options, load_for_measuring, parse_options


@dataclass(frozen=True)
class ClassFlips:
    """Changes from A to B among the images of one label."""

    images: int
    broken: int
    """Right in A, wrong in B."""
    fixed: int
    """Wrong in A, right in B."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of the classifiers A and B on the same images. Differences are B - A."""

    images: int
    accuracy_a: float
    accuracy_b: float
    accuracy_difference: float
    accuracy_difference_95: Interval
    """Bootstrap interval of the difference; both are measured on the same images drawn again. Without any flip it is 0
    to 0; then fewer than 3 in N of other images flip. Source: Hanley and Lippman-Hand, If Nothing Goes Wrong, 1983."""
    broken: int
    """Images that A gets right and B wrong."""
    fixed: int
    """Images that A gets wrong and B right."""
    mcnemar_p: float
    """See `mcnemar_p_value`."""
    agreement: float
    """Part of the images with the same answer, right or wrong."""
    nll_a: float
    nll_b: float
    nll_difference: float
    nll_difference_95: Interval
    """Bootstrap interval, as for the accuracy."""
    largest_difference: float
    """Largest difference of one probability of one image between A and B."""
    mean_difference: float
    """Mean absolute difference of all probabilities of all images."""
    classes: dict[str, ClassFlips]


def compare_predictions(a: Floats, b: Floats, labels: Labels, class_names: Sequence[str] = LABELS) -> Comparison:
    """Compare two sets of probabilities of the same images.

    Args:
        a: float, (N, C), rows sum to 1; N is at least 1.
        b: The same.
        labels: int64, (N,), 0..C-1.
        class_names: The C classes.

    Raises:
        ValueError: The shapes do not fit each other or the class names.
    """
    if not a.shape == b.shape == (len(labels), len(class_names)) or not len(labels):
        raise ValueError(
            f"probabilities {a.shape} and {b.shape}: expected ({len(labels)}, {len(class_names)}) for both, "
            "and at least one image"
        )
    answers_a, answers_b = a.argmax(axis=1), b.argmax(axis=1)
    right_a, right_b = answers_a == labels, answers_b == labels
    broken, fixed = right_a & ~right_b, ~right_a & right_b
    losses_a, losses_b = negative_log_likelihoods(a, labels), negative_log_likelihoods(b, labels)
    gains = right_b.astype(np.float64) - right_a
    again = resampled_sums(np.column_stack([gains, losses_b - losses_a])) / len(labels)
    differences = np.abs(a.astype(np.float64) - b)
    return Comparison(
        images=len(labels),
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        accuracy_difference=float(gains.mean()),
        accuracy_difference_95=percentile_interval(again[:, 0]),
        broken=int(broken.sum()),
        fixed=int(fixed.sum()),
        mcnemar_p=mcnemar_p_value(int(broken.sum()), int(fixed.sum())),
        agreement=float((answers_a == answers_b).mean()),
        nll_a=float(losses_a.mean()),
        nll_b=float(losses_b.mean()),
        nll_difference=float((losses_b - losses_a).mean()),
        nll_difference_95=percentile_interval(again[:, 1]),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        classes={
            name: ClassFlips(int(one.sum()), int((broken & one).sum()), int((fixed & one).sum()))
            for name, one in ((name, labels == index) for index, name in enumerate(class_names))
        },
    )


def mcnemar_p_value(broken: int, fixed: int) -> float:
    """Return the exact two-sided p-value: how often two equally good classifiers flip at least as unevenly, 0..1.

    Of the images that only one of the two gets right, each is right in either with probability 1/2.
    Source: McNemar, 1947; the exact form is the sign test.

    Args:
        broken: Images that only the first one gets right.
        fixed: Images that only the second one gets right.
    """
    flips = broken + fixed
    total = term = 1
    for k in range(min(broken, fixed)):
        term = term * (flips - k) // (k + 1)  # The binomial coefficient of flips over k + 1.
        total += term
    p_value: float = 2 * total / 2**flips  # Whole numbers up to the division, so that no size overflows.
    return min(p_value, 1.0)


def format_comparison(comparison: Comparison, a: str, b: str, usage: str) -> str:
    """Format the comparison as lines of text, classes in a table at the end."""
    low, high = comparison.accuracy_difference_95
    nll_low, nll_high = comparison.nll_difference_95
    width = max(8, *(len(name) for name in comparison.classes)) + 1
    lines = [
        f"{usage}: {comparison.images} images",
        f"A                  {a}",
        f"B                  {b}",
        f"accuracy of A      {comparison.accuracy_a:.2%}",
        f"accuracy of B      {comparison.accuracy_b:.2%}",
        f"difference         {100 * comparison.accuracy_difference:+.2f} points  "
        f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f})",
        f"flips              {comparison.broken} right to wrong, {comparison.fixed} wrong to right; "
        f"McNemar p = {comparison.mcnemar_p:.2g}",
        f"same answer        {comparison.agreement:.2%}",
        f"NLL of A, B        {comparison.nll_a:.4f}, {comparison.nll_b:.4f}; "
        f"difference {comparison.nll_difference:+.2g}  ({nll_low:+.2g} to {nll_high:+.2g})",
        f"probabilities      differ by up to {comparison.largest_difference:.2g}, "
        f"on average by {comparison.mean_difference:.2g}",
        f"{'class':<{width}}{'images':>8}{'broken':>8}{'fixed':>7}{'net':>6}",
    ]
    lines += [
        f"{name:<{width}}{one.images:>8}{one.broken:>8}{one.fixed:>7}{one.fixed - one.broken:>+6}"
        for name, one in comparison.classes.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train compare` and return its exit code."""
    parser = subcommand_parser(
        "fer-train compare",
        description="Compare two classifiers on the same labelled faces.",
        examples="""\
  fer-train compare runs/compact/checkpoint.pt training/release/fer_classifier.onnx --fer2013 DIR
  fer-train compare training/release/fer_classifier.onnx http://localhost:8000 --fer2013 DIR --json""",
        exit_codes=EXIT_CODES,
    )
    kinds = "a checkpoint.pt, a file .onnx, or a server's URL with http:// or grpc://"
    parser.add_argument("a", type=_model, metavar="A", help=kinds)
    parser.add_argument("b", type=_model, metavar="B", help="the same")
    add_source_options(parser, to_measure=True)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _model(text: str) -> str:
    return server_url(text) if "://" in text else text


def _run(options: argparse.Namespace) -> None:
    faces, usage = load_for_measuring(options)
    a, b = predict(options.a, faces), predict(options.b, faces)
    comparison = compare_predictions(a, b, faces.labels, faces.class_names)
    if options.json:
        print(json.dumps({"usage": usage, "a": options.a, "b": options.b, **asdict(comparison)}, indent=2))
    else:
        print(format_comparison(comparison, options.a, options.b, usage))
