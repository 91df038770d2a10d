"""What searching for faces costs and finds, by the size of the picture and of its faces.

Ten heads of the shipped photo are pasted into random backgrounds, and the pictures searched in several ways: at one
size, and with a second look of several sizes where the first shows no face or only small ones. With `--invented`, busy
pictures without a face are searched as well. Everything runs in this process on one thread; times are medians of CPU.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from tqdm import tqdm

from fer_bench.command import at_least_one, format_markdown, make_parser, run
from fer_bench.machine import describe_machine
from fer_bench.pictures import JPEG_QUALITY, Picture, Scene, make_busy_picture, make_scene
from fer_detector import YUNET, Detections, open_network
from fer_search import FaceSearch, SearchSettings

SIZES: Final = ((1280, 720), (1920, 1080))
FACES_PX: Final = (20, 24, 30, 40, 50, 80)
WAYS: Final[Mapping[str, SearchSettings]] = {
    "320 px": SearchSettings(second_look_px=0),
    "640 px": SearchSettings(side_px=640, second_look_px=0),
    "320 px, 0.5 megapixels": SearchSettings(second_look_px=500_000),
    "320 px, 0.9 megapixels": SearchSettings(second_look_px=900_000),
    "320 px, 1.6 megapixels": SearchSettings(),
    "320 px, 2.1 megapixels": SearchSettings(second_look_px=2_100_000),
}
"""The longest side of the first look, and the second look, by name. The last but one is the default."""
PORTRAITS: Final = ((640, 480), (1280, 720), (2000, 1500))
_SAME: Final = 0.4
"""Boxes that overlap more, as intersection over union, are of the same face."""


@dataclass
class Tally:
    """What one way found in pictures of one kind."""

    faces: int = 0
    found: int = 0
    others: int = 0
    """Number of places that were taken for a face and are none."""
    cpu_ms: float = 0.0


def search(way: SearchSettings, scenes: Sequence[Scene]) -> Tally:
    """Search the scenes in one way."""
    finder = FaceSearch(open_network(YUNET), way)
    finder.detect(scenes[0].picture)
    tally, times = Tally(), []
    for scene in scenes:
        started = time.process_time()
        detections = finder.detect(scene.picture)
        times.append(1000 * (time.process_time() - started))
        hits = _count_found(scene, detections)
        tally.faces += len(scene.boxes)
        tally.found += hits
        tally.others += len(detections.scores) - hits
    tally.cpu_ms = statistics.median(times)
    return tally


def _count_found(scene: Scene, detections: Detections) -> int:
    if not len(detections.scores):
        return 0
    return sum(bool(detections.overlaps(np.array(box, np.float32)).max() > _SAME) for box in scene.boxes)


def count_invented(seeds: range) -> tuple[int, int, float]:
    """Count the faces that are found in busy pictures, which have none.

    Returns:
        How many libfacedetection's own rule finds, one look at 320 px with a score of 0.5; how many the search finds;
        and the search's mean CPU time in ms.
    """
    careless = FaceSearch(open_network(YUNET), SearchSettings(candidate_score=0.5, sure_score=0.5, second_look_px=0))
    careful = FaceSearch(open_network(YUNET))
    by_rule = by_search = 0
    spent = 0.0
    for seed in tqdm(seeds, unit="picture", leave=False, disable=None):
        picture = make_busy_picture(seed)
        by_rule += len(careless.detect(picture).scores)
        started = time.process_time()
        by_search += len(careful.detect(picture).scores)
        spent += time.process_time() - started
    return by_rule, by_search, 1000 * spent / len(seeds)


def format_table(tallies: Mapping[tuple[str, tuple[int, int], int], Tally]) -> str:
    """Return a Markdown table: a row for each way and size, a column for each height of faces: found (CPU ms)."""
    heights = list(dict.fromkeys(height for _, _, height in tallies))
    rows = []
    for way, size in dict.fromkeys((way, size) for way, size, _ in tallies):
        cells = [tallies[way, size, height] for height in heights]
        found = [f"{100 * cell.found / cell.faces:.0f} % ({cell.cpu_ms:.0f} ms)" for cell in cells]
        rows.append([way, f"{size[0]}x{size[1]}", *found])
    return format_markdown(["looks", "picture", *(f"faces of {height} px" for height in heights)], rows)


def _as_photo(scene: Scene) -> Scene:
    """Return what is left of a scene in a JPEG file."""
    _, data = cv2.imencode(".jpg", scene.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    picture: Picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return Scene(picture, scene.boxes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser("detection", "Show what searching for faces costs and finds.")
    parser.add_argument(
        "--seeds", type=at_least_one, default=6, metavar="N", help="pictures of each kind; default: %(default)s"
    )
    parser.add_argument("--invented", type=at_least_one, metavar="N", help="search N busy pictures too; default: none")
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    kinds = [(size, height) for size in SIZES for height in FACES_PX]
    tallies = {}
    for size, height in tqdm(kinds, unit="kind", leave=False, disable=None):
        scenes = [_as_photo(make_scene(seed, *size, height)) for seed in range(options.seeds)]
        for way, settings in WAYS.items():
            tallies[way, size, height] = search(settings, scenes)
    print(format_table(dict(sorted(tallies.items(), key=lambda one: (list(WAYS).index(one[0][0]), one[0][1])))))
    print(f"\n- found that is no face: {sum(tally.others for tally in tallies.values())}")
    for width, height in PORTRAITS:
        portraits = [make_scene(seed, width, height, height // 3, faces=1) for seed in range(options.seeds)]
        tally = search(SearchSettings(), portraits)
        print(f"- portrait of {width}x{height}: {tally.found} of {tally.faces} faces, {tally.cpu_ms:.1f} ms")
    if options.invented:
        by_rule, by_search, cpu_ms = count_invented(range(options.invented))
        print(
            f"- {options.invented:,} busy pictures without a face: {by_rule} invented by one look at 320 px with a "
            f"threshold of 0.5, {by_search} by the search, which took {cpu_ms:.0f} ms a picture"
        )
    print(f"\n{describe_machine()}; {options.seeds} pictures of each kind.")
