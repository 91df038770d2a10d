import io
import json
import os
import sys
from dataclasses import replace
from pathlib import PurePath

import pytest
from pictures import encode, encode_turned
from PIL import Image, ImageColor, ImageOps, ImageStat

from fer_client import Box, CroppedPrediction, Face, ImageSize, Landmarks, Point
from fer_client._drawing import colors_of
from fer_client.cli import main
from fer_client.command.annotate import FORMATS, AnnotationError, plan_outputs
from fer_client.command.photo_drawing import draw, open_upright

GRAY = (128, 128, 128)
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
HAPPY, SURPRISED = (ImageColor.getrgb(colors_of(LABELS)[label]) for label in ("happy", "surprise"))


def face_at(x, y, size, emotion="happy"):
    """A square face whose apparent expression has 0.7."""
    points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    return Face(
        box=Box(x, y, x + size, y + size),
        landmarks=Landmarks(*(Point(x + a * size, y + b * size) for a, b in points)),
        detection_score=0.9,
        probabilities={label: 0.7 if label == emotion else 0.05 for label in LABELS},
    )


def count_colors(image, area):
    """How many pixels of an area have each color."""
    return {color: count for count, color in image.crop(area).getcolors(maxcolors=1_000_000)}


def test_box_and_landmarks_are_drawn_where_they_are():
    photo = Image.new("RGB", (600, 500), GRAY)
    drawn = draw(photo, [face_at(200, 150, 200)])
    for x, y in ((200 + 1, 250), (400 - 1, 250), (300, 350 - 1), (260, 230), (300, 270)):
        assert drawn.getpixel((x, y)) == HAPPY
    assert drawn.getpixel((300, 200)) == GRAY
    assert photo.getcolors() == [(600 * 500, GRAY)]


def test_the_panel_has_a_bar_for_each_label_as_long_as_its_probability():
    drawn = draw(Image.new("RGB", (600, 500), GRAY), [face_at(200, 150, 200)])
    bars = count_colors(drawn, (600, 100, *drawn.size))  # Below the badge, which has the face's color too.
    assert bars[HAPPY] == pytest.approx(14 * bars[SURPRISED], rel=0.25)


@pytest.mark.parametrize("corner", [(-30, -30), (560, -20), (-20, 460), (550, 450)])
def test_a_face_across_the_border_keeps_its_caption_on_the_picture(corner):
    drawn = draw(Image.new("RGB", (600, 500), GRAY), [face_at(*corner, 80)])
    # The caption has a large area; outline and landmarks alone are a few hundred pixels.
    assert count_colors(drawn, (0, 0, 600, 500))[HAPPY] > 1000


def test_captions_cover_neither_other_faces_nor_each_other():
    left, right = face_at(100, 200, 60), face_at(170, 200, 60, "surprise")
    drawn = draw(Image.new("RGB", (600, 500), GRAY), [left, right])
    assert SURPRISED not in count_colors(drawn, (100, 200, 160, 260))
    assert HAPPY not in count_colors(drawn, (170, 200, 230, 260))


def test_the_panel_says_that_faces_were_left_out():
    faces = [face_at(200, 150, 200)]
    photo = Image.new("RGB", (600, 500), GRAY)
    heading = (600, 0, draw(photo, faces).width, 30)
    assert draw(photo, faces, 8).crop(heading).tobytes() != draw(photo, faces).crop(heading).tobytes()


def test_a_small_picture_is_enlarged_and_its_boxes_with_it():
    drawn = draw(Image.new("RGB", (48, 48), GRAY), [face_at(12, 12, 24)])
    assert drawn.height == 400
    assert HAPPY in count_colors(drawn, (98, 200, 106, 204))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (64, 2000), (3000, 2000)])
@pytest.mark.parametrize("count", [0, 1, 32])
def test_any_size_and_number_of_faces_can_be_drawn(size, count):
    photo = Image.new("RGB", size, GRAY)
    drawn = draw(photo, [face_at(30 * index, 20 * index, 25) for index in range(count)])
    assert drawn.width > size[0]
    assert drawn.height >= size[1]


def corner_marked():
    """A wide picture that looks different from every side: black, white at the upper left."""
    picture = Image.new("RGB", (64, 48), "black")
    picture.paste("white", (0, 0, 16, 8))
    return picture


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_upright(orientation, image_format):
    opened = open_upright(encode_turned(corner_marked(), orientation, image_format))
    assert opened.size == (64, 48)
    assert opened.getpixel((8, 4))[0] > 200
    assert max(opened.getpixel(corner)[0] for corner in ((60, 4), (8, 44), (60, 44))) < 50


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def test_an_orientation_in_xmp_is_left_alone_as_the_server_does():
    photo = encode(corner_marked(), "JPEG", xmp=XMP)
    with Image.open(io.BytesIO(photo)) as opened:
        assert ImageOps.exif_transpose(opened).size == (48, 64)  # Pillow itself would turn it.
    assert open_upright(photo).size == (64, 48)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0rubbish", b"rubbish"])
def test_damaged_exif_turns_nothing(exif):
    assert open_upright(encode(corner_marked(), "JPEG", exif=exif)).size == (64, 48)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert open_upright(encode(corner_marked(), "JPEG", exif=exif)).size == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_any_kind_of_pixels_keeps_its_brightness(mode):
    gray = Image.new("I;16", (8, 8), 128 * 256) if mode == "I;16" else Image.new("L", (8, 8), 128).convert(mode)
    opened = open_upright(encode(gray))
    assert opened.mode == "RGB"
    assert ImageStat.Stat(opened).mean == pytest.approx([128] * 3, abs=1)


def test_what_pillow_cannot_read_is_a_value_error():
    with pytest.raises(ValueError, match="Pillow says: cannot identify image file"):
        open_upright(b"photo")


@pytest.fixture
def predict(fake_triton, tmp_path, capsys):
    """Run `fer-client predict` with `--annotate`: its exit code, what it printed, and its one line on stderr."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(Image.new("RGB", (640, 480), GRAY)))

    def run(output, image=photo, *options):
        code = main(["predict", str(image), "--url", fake_triton.url("http"), "--annotate", str(output), *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize("extension", [*FORMATS, ".PNG"])
def test_the_extension_chooses_the_format(predict, tmp_path, extension):
    output = tmp_path / f"faces{extension}"
    code, out, err = predict(output)
    assert (code, err) == (0, "")
    assert "happy 70.0%" in out
    assert out.endswith(f"%\nannotated picture: {output}\n")
    with Image.open(output) as written:
        assert written.format == FORMATS[extension.lower()]
        assert written.size > (640, 480)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["photo.png", output.name])


def test_with_json_the_output_stays_one_document(predict, tmp_path):
    code, out, err = predict(tmp_path / "faces.png", tmp_path / "photo.png", "--json")
    assert (code, err) == (0, "")
    [image] = json.loads(out)["images"]
    assert [face["emotion"] for face in image["faces"]] == ["happy"]
    assert (tmp_path / "faces.png").is_file()


def test_a_picture_that_the_server_sees_in_another_size_is_not_drawn(predict, tmp_path):
    turned = tmp_path / "turned.png"
    turned.write_bytes(encode(Image.new("RGB", (480, 640), GRAY)))
    code, out, err = predict(tmp_path / "faces.png", turned)
    assert code == 2
    assert "annotated picture" not in out
    message = "cannot draw on the image: it is 640 x 480 px to the server and 480 x 640 px to Pillow"
    assert err.startswith(f"fer-client: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "faces.png").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("faces.gif", r"expected a folder, or a name that ends in .png, .jpg, .jpeg, .webp, .bmp"),
        ("missing/faces.png", r"there is no folder"),
        ("photo.png/faces.png", r"there is no folder"),
        ("photo.png/faces", r"{folder}/photo.png is a file"),
    ],
)
def test_an_output_that_cannot_be_is_2_before_the_server_is_asked(predict, fake_triton, tmp_path, output, message):
    message = message.replace("{folder}", str(tmp_path))
    code, out, err = predict(tmp_path / output)
    assert (code, out) == (2, "")
    assert err.startswith(f"fer-client: cannot write {tmp_path / output}: {message}")
    assert not fake_triton.asked


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_folder_that_takes_no_file_is_2_before_the_server_is_asked(predict, fake_triton, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    code, out, err = predict(folder / "faces.png")
    assert (code, out) == (2, "")
    assert err.endswith("is not writable\n")
    assert not fake_triton.asked


def test_an_output_that_fails_later_is_2_and_the_prediction_is_printed_all_the_same(predict):
    code, out, err = predict("/proc/faces.png")  # A folder that says it is writable, and is not.
    assert code == 2
    assert "happy 70.0%" in out
    assert "annotated picture" not in out
    assert err == "fer-client: cannot write /proc/faces.png: No such file or directory\n"


def test_an_old_picture_stays_when_the_new_one_cannot_be_drawn(predict, tmp_path):
    output = tmp_path / "faces.png"
    output.write_bytes(b"old")
    no_image = tmp_path / "no_image.jpg"
    no_image.write_bytes(b"photo")
    code, _, err = predict(output, no_image)
    assert code == 2
    assert err.startswith("fer-client: cannot draw on the image: Pillow says: cannot identify")
    assert output.read_bytes() == b"old"


def test_without_pillow_the_pip_line_is_printed(predict, fake_triton, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)  # Python takes this for a module that cannot be imported.
    code, out, err = predict(tmp_path / "faces.png")
    assert (code, out) == (2, "")
    assert err == "fer-client: drawing needs Pillow: pip install 'fer-triton[pictures]'\n"
    assert not fake_triton.asked


def test_a_crop_gets_its_panel_and_nothing_is_drawn_on_it():
    crop = CroppedPrediction(ImageSize(400, 400), face_at(0, 0, 9).probabilities, uncertain=False, model_version="v1")
    drawn = draw(Image.new("RGB", (400, 400), GRAY), [crop])
    assert count_colors(drawn, (0, 0, 400, 400)) == {GRAY: 400 * 400}
    assert count_colors(drawn, (400, 0, *drawn.size))[HAPPY] > 200


def test_without_the_panel_the_picture_keeps_its_size_and_has_boxes_and_captions(predict, tmp_path):
    code, _, err = predict(tmp_path / "faces.png", tmp_path / "photo.png", "--no-panel")
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "faces.png") as written:
        assert written.size == (640, 480)
        assert count_colors(written, (0, 0, 640, 480))[HAPPY] > 1000


@pytest.mark.parametrize(
    ("options", "reason"), [(["--annotate", "x", "--cropped"], "beside a crop"), ([], "--annotate")]
)
def test_no_panel_without_anything_else_to_draw_is_wrong_usage(tmp_path, capsys, options, reason):
    (tmp_path / "a.png").write_bytes(b"photo")
    assert main(["predict", str(tmp_path / "a.png"), "--no-panel", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("fer-client: --no-panel has no use here: ")
    assert reason in err


def test_an_uncertain_face_is_drawn_with_a_question_mark():
    photo, face = Image.new("RGB", (600, 500), GRAY), face_at(200, 150, 200)
    certain, uncertain = (draw(photo, [replace(face, uncertain=value)]) for value in (False, True))
    caption = (180, 100, 600, 150)
    assert count_colors(uncertain, caption)[HAPPY] > count_colors(certain, caption)[HAPPY]


def test_captions_of_a_crowd_are_no_wider_than_its_faces_need():
    crowd = [face_at(20 + 110 * column, 60 + 100 * row, 50) for row in range(8) for column in range(8)]
    drawn = draw(Image.new("RGB", (900, 900), GRAY), crowd[:32])
    alone = draw(Image.new("RGB", (900, 900), GRAY), crowd[:1])
    above = (0, 0, 120, 58)
    assert count_colors(drawn, above)[HAPPY] < 0.6 * count_colors(alone, above)[HAPPY]


def planned(*names, to, folder):
    """Names of the files that `plan_outputs` chooses for pictures, below the folder they are written to."""
    pictures = [(str(folder / name), PurePath(name)) for name in names]
    return [path.relative_to(to).as_posix() for path in plan_outputs(pictures, str(to))]


def test_in_a_folder_pictures_keep_their_names_and_places(tmp_path):
    names = ["a.jpg", "sub/a.jpg", "b.WEBP", "c.bmp"]
    assert planned(*names, to=tmp_path / "drawn", folder=tmp_path) == names


@pytest.mark.parametrize(("name", "file"), [("a.jfif", "a.jfif.png"), ("stdin", "stdin.png"), ("a.gif", "a.gif.png")])
def test_what_is_not_written_in_its_own_format_becomes_png(tmp_path, name, file):
    assert planned(name, to=tmp_path / "drawn", folder=tmp_path) == [file]


def test_a_second_picture_of_a_name_gets_a_number(tmp_path):
    pictures = [(f"{folder}/a.jpg", PurePath("a.jpg")) for folder in "xyz"] + [("a-2.jpg", PurePath("a-2.jpg"))]
    files = plan_outputs(pictures, str(tmp_path / "drawn"))
    assert [file.name for file in files] == ["a.jpg", "a-2.jpg", "a-3.jpg", "a-2-2.jpg"]


def test_a_folder_may_have_a_name_like_a_picture_if_it_is_one_or_is_written_as_one(tmp_path):
    (tmp_path / "made.png").mkdir()
    assert planned("a.jpg", to=tmp_path / "made.png", folder=tmp_path) == ["a.jpg"]
    [file] = plan_outputs([("a.jpg", PurePath("a.jpg"))], f"{tmp_path}/new.v2/")
    assert file == tmp_path / "new.v2" / "a.jpg"


def test_several_pictures_do_not_go_into_one_file(tmp_path):
    pictures = [(name, PurePath(name)) for name in ("a.jpg", "b.jpg")]
    with pytest.raises(AnnotationError, match="is one file and there are 2 images: name a folder"):
        plan_outputs(pictures, str(tmp_path / "faces.png"))


@pytest.mark.parametrize("output", ["photos", "photos/a.jpg", "link"])
def test_a_picture_is_never_overwritten_by_its_copy(tmp_path, output):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"photo")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(AnnotationError, match=r"a\.jpg would be overwritten by an annotated copy"):
        plan_outputs([(str(tmp_path / "photos" / "a.jpg"), PurePath("a.jpg"))], str(tmp_path / output))


def test_a_picture_is_never_overwritten_by_another_s_copy(tmp_path):
    for name in ("a.jpg", "sub/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"photo")
    pictures = [(str(tmp_path / name), PurePath("a.jpg")) for name in ("sub/a.jpg", "a.jpg")]
    with pytest.raises(AnnotationError, match=r"a\.jpg would be overwritten by an annotated copy"):
        plan_outputs(pictures, str(tmp_path))


def test_lines_stay_sharp_in_jpeg(predict, tmp_path):
    predict(tmp_path / "faces.jpg")
    with Image.open(tmp_path / "faces.jpg") as written:
        assert sum(abs(a - b) for a, b in zip(written.getpixel((101, 150)), HAPPY, strict=True)) < 30
