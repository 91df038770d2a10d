"""Which pixels reach the server for arrays of each type and Pillow images of each mode: values, not just no error."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from fer_client._images import encode

ORIENTATION = 0x0112

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [10, 20, 30], [200, 100, 50]]], np.uint8)
GRAY = np.array([[0, 1, 127, 128], [200, 254, 255, 64]], np.uint8)


def shown(image, channels=None):
    """What is in the file that is sent."""
    with Image.open(io.BytesIO(encode(image, channels))) as sent:
        assert sent.mode in ("L", "RGB")
        assert not sent.getexif()
        return np.asarray(sent)


def opened(image, **options):
    """A Pillow image as it comes out of a PNG file."""
    file = io.BytesIO()
    image.save(file, options.pop("format", "PNG"), **options)
    return Image.open(file)


SIXTEEN_BITS = np.array([[0, 255, 256, 257], [32767, 32768, 65279, 65535]], np.uint16)
UPPER_BITS = np.array([[0, 0, 1, 1], [127, 128, 254, 255]], np.uint8)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "uint32", "int64"])
def test_arrays_of_16_bits_are_scaled_by_65535(dtype):
    assert shown(SIXTEEN_BITS.astype(dtype)).tolist() == UPPER_BITS.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_of_floats_are_scaled_by_1(dtype):
    values = np.array([[0, 0.25, 0.5], [0.75, 0.998, 1]], dtype)
    assert shown(values).tolist() == [[0, 64, 128], [191, 254, 255]]


def test_arrays_of_bool_are_black_and_white():
    assert shown(np.array([[True, False], [False, True]])).tolist() == [[255, 0], [0, 255]]


def test_colours_are_scaled_as_grays_are():
    assert shown(COLOURS / 255, "rgb").tolist() == COLOURS.tolist()
    assert shown(COLOURS.astype(np.uint16) * 257, "bgr").tolist() == COLOURS[:, :, ::-1].tolist()


def test_one_channel_is_gray():
    assert shown(GRAY[:, :, None]).tolist() == GRAY.tolist()


ALPHA = np.array([[0, 255, 128], [1, 254, 51]], np.uint8)
ON_WHITE = [
    [[255, 255, 255], [0, 255, 0], [127, 127, 255]],
    [[255, 255, 254], [11, 21, 31], [244, 224, 214]],
]


def test_alpha_is_seen_on_white():
    assert shown(np.dstack([COLOURS, ALPHA]), "rgb").tolist() == ON_WHITE
    assert shown(np.dstack([COLOURS[:, :, ::-1], ALPHA]), "bgr").tolist() == ON_WHITE
    assert shown(np.dstack([COLOURS, ALPHA]) / 255, "rgb").tolist() == ON_WHITE


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (GRAY.astype(np.float32), r"array of float32 with values from 0 to 255: expected 0\.\.1; scale them"),
        (np.array([[0.5, np.nan]]), r"values from nan to nan: expected 0\.\.1"),
        (np.array([[-0.1, 1]]), r"values from -0\.1 to 1: expected 0\.\.1"),
        (GRAY.astype(int), r"array of int64 with values up to 255: they could be of 8 or of 16 bits; say which"),
        (np.array([[0, 65_536]]), r"values from 0 to 65536: expected 0\.\.65535"),
        (np.array([[-1, 60_000]]), r"values from -1 to 60000: expected 0\.\.65535"),
        (GRAY.astype(np.int8), r"array of int8: expected uint8 \(0\.\.255\), uint16"),
        (GRAY.astype(np.int16), r"array of int16: expected uint8"),
        (GRAY.astype(complex), r"array of complex128: expected uint8"),
        (GRAY.astype(str), r"array of <U\d+: expected uint8"),
        (np.zeros((2, 2, 2), np.uint8), r"array of shape \(2, 2, 2\): expected .* with C of 1, 3 or 4"),
        (np.zeros((1, 8, 9, 3), np.uint8), r"shape \(1, 8, 9, 3\).*one picture at a time, array\[0\] of a batch"),
        (np.zeros((3, 8, 9), np.uint8), r"shape \(3, 8, 9\).*put the channels last by array\.transpose\(1, 2, 0\)"),
        (np.zeros((8, 9, 4), np.uint8), r"array of colours: say channels"),
    ],
)
def test_values_and_shapes_that_say_too_little_are_refused_with_the_way_out(array, message):
    with pytest.raises(ValueError, match=message):
        encode(array)


def test_an_array_of_zeros_is_black_in_any_type():
    assert shown(np.zeros((2, 3), int)).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_pillow_images_of_16_bits_are_scaled(mode):
    order = ">u2" if mode == "I;16B" else "<u2"
    image = Image.frombytes(mode, (4, 2), SIXTEEN_BITS.astype(order).tobytes())
    assert shown(image).tolist() == UPPER_BITS.tolist()


def test_a_16_bit_file_that_pillow_has_opened_is_scaled():
    png = opened(Image.fromarray(SIXTEEN_BITS))
    assert png.mode in ("I;16", "I")
    assert shown(png).tolist() == UPPER_BITS.tolist()
    pgm = Image.open(io.BytesIO(b"P5 4 2 65535 " + SIXTEEN_BITS.astype(">u2").tobytes()))
    assert pgm.mode == "I"
    assert shown(pgm).tolist() == UPPER_BITS.tolist()


def test_pillow_images_of_32_bits_are_scaled_by_65535_or_refused():
    assert shown(Image.fromarray(SIXTEEN_BITS.astype(np.int32))).tolist() == UPPER_BITS.tolist()
    with pytest.raises(
        ValueError, match=r"Pillow image of mode 'I' of int32 with values up to 255: they could be of 8"
    ):
        encode(Image.fromarray(GRAY).convert("I"))
    with pytest.raises(ValueError, match=r"mode 'I' of int32 with values from 0 to 70000: expected 0\.\.65535"):
        encode(Image.fromarray(np.array([[0, 70_000]], np.int32)))


def test_pillow_images_of_floats_are_scaled_by_1_or_refused():
    assert shown(Image.fromarray(np.array([[0, 0.5, 1]], np.float32))).tolist() == [[0, 128, 255]]
    with pytest.raises(ValueError, match=r"Pillow image of mode 'F' of float32 with values from 0 to 255: expected 0"):
        encode(Image.fromarray(GRAY).convert("F"))


def test_pillow_images_of_8_bits_are_sent_as_they_are():
    assert shown(Image.fromarray(GRAY)).tolist() == GRAY.tolist()
    assert shown(Image.fromarray(COLOURS)).tolist() == COLOURS.tolist()
    assert shown(Image.fromarray(GRAY > 100)).tolist() == np.where(GRAY > 100, 255, 0).tolist()


@pytest.mark.parametrize(("mode", "off"), [("CMYK", 0), ("RGBX", 0), ("P", 0), ("YCbCr", 2), ("HSV", 3), ("LAB", 2)])
def test_other_colour_spaces_are_converted(mode, off):
    """`off` is what the conversion there and back may lose; 8 bits of L*a*b* hold no strong colours."""
    colours = COLOURS[1:, 1:] if mode == "LAB" else COLOURS
    image = Image.fromarray(colours)
    if mode == "LAB":
        from PIL import ImageCms

        transform = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(*transform))
    elif mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    else:
        image = image.convert(mode)
    assert image.mode == mode
    assert np.abs(shown(image).astype(int) - colours).max() <= off


def test_every_mode_of_pillow_is_sent_or_refused_in_words():
    from PIL import ImageMode

    white_or_refused = []
    for mode in (
        "1",
        "L",
        "P",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "F",
        "LA",
        "PA",
        "RGBX",
        "RGBa",
        "La",
    ):
        ImageMode.getmode(mode)
        white_or_refused.append(shown(Image.new(mode, (3, 2))).shape[:2])
    assert white_or_refused == [(2, 3)] * 16


def test_transparent_pillow_images_are_seen_on_white():
    rgba = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    assert shown(rgba).tolist() == ON_WHITE
    gray = Image.merge("LA", [Image.fromarray(np.uint8([[0, 100]])), Image.fromarray(np.uint8([[51, 255]]))])
    assert shown(gray)[:, :, 0].tolist() == [[204, 100]]


@pytest.mark.parametrize(("premultiplied", "plain"), [("RGBa", "RGBA"), ("La", "LA")])
def test_premultiplied_alpha_is_seen_on_white(premultiplied, plain):
    image = Image.new(plain, (2, 1), (100, 100, 100, 128) if plain == "RGBA" else (100, 128))
    assert np.abs(shown(image.convert(premultiplied)).astype(int) - 177).max() <= 1
    assert np.abs(shown(image).astype(int) - 177).max() == 0


def test_transparency_beside_the_pixels_is_seen_on_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert shown(palette).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert shown(opened(palette, transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert shown(opened(palette, transparency=bytes([255, 51]))).tolist() == [[[10, 20, 30], [212, 214, 216]]]
    assert shown(palette.convert("PA")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert shown(opened(Image.fromarray(COLOURS), transparency=(10, 20, 30)))[1, 1].tolist() == [255, 255, 255]
    assert shown(opened(Image.fromarray(GRAY), transparency=64))[1, 3].tolist() == [255, 255, 255]
    assert shown(opened(Image.fromarray(SIXTEEN_BITS), transparency=257)).tolist()[0] == [0, 0, 1, 255]


def test_a_colour_profile_changes_nothing():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert shown(opened(Image.fromarray(COLOURS), icc_profile=profile)).tolist() == COLOURS.tolist()


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"Pillow image of 0 x 5 px: expected 1 or more"):
        encode(Image.new("RGB", (0, 5)))


UPRIGHT = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
LYING = {
    1: UPRIGHT,
    2: UPRIGHT.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: UPRIGHT.transpose(Image.Transpose.ROTATE_180),
    4: UPRIGHT.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: UPRIGHT.transpose(Image.Transpose.TRANSPOSE),
    6: UPRIGHT.transpose(Image.Transpose.ROTATE_90),
    7: UPRIGHT.transpose(Image.Transpose.TRANSVERSE),
    8: UPRIGHT.transpose(Image.Transpose.ROTATE_270),
}
"""A picture as a camera stores it, by what it then writes into the EXIF data."""


def photo(orientation, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return opened(LYING[orientation], exif=exif, **options)


@pytest.mark.parametrize("orientation", LYING)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_photo_as_it_was_opened_is_turned_upright(orientation, format):
    lossless = {"lossless": True} if format == "WEBP" else {}
    sent = shown(photo(orientation, format=format, **lossless))
    assert (sent if sent.ndim == 2 else sent[:, :, 0]).tolist() == np.asarray(UPRIGHT).tolist()


@pytest.mark.parametrize("orientation", LYING)
def test_a_photo_that_was_turned_upright_is_not_turned_again(orientation):
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    image = photo(orientation)
    turned = image.transpose(Image.Transpose(back[orientation])) if orientation > 1 else image.copy()
    assert turned.getexif()[ORIENTATION] == orientation  # Pillow's copy still says so.
    assert shown(turned).tolist() == np.asarray(UPRIGHT).tolist()
    assert shown(ImageOps.exif_transpose(photo(orientation))).tolist() == np.asarray(UPRIGHT).tolist()


def test_a_rotated_photo_is_not_turned_twice():
    """Pillow's issue 4537."""
    assert shown(photo(6).rotate(270, expand=True)).tolist() == np.asarray(UPRIGHT).tolist()
    assert shown(photo(8).rotate(90, expand=True)).tolist() == np.asarray(UPRIGHT).tolist()
    assert shown(photo(3).rotate(180)).tolist() == np.asarray(UPRIGHT).tolist()


@pytest.mark.parametrize(
    "change",
    [
        Image.Image.copy,
        lambda image: image.convert("L"),
        lambda image: image.crop((1, 1, 3, 5)),
        lambda image: image.resize((8, 8), Image.Resampling.NEAREST),
        lambda image: image.transform((4, 6), Image.Transform.AFFINE, (1, 0, 0, 0, 1, 0)),
        ImageOps.grayscale,
        ImageOps.mirror,
    ],
)
def test_what_pillow_made_of_a_photo_is_sent_as_pillow_shows_it(change):
    changed = change(photo(6))
    assert shown(changed).tolist() == np.asarray(changed).tolist()


def test_what_the_exif_data_say_now_counts():
    """Changes in place: of the EXIF data, of the size, of the pixels."""
    image = photo(6)
    image.getexif()[ORIENTATION] = 1
    assert shown(image).tolist() == np.asarray(LYING[6]).tolist()
    image = photo(6)
    ImageOps.exif_transpose(image, in_place=True)
    assert shown(image).tolist() == np.asarray(UPRIGHT).tolist()
    image = photo(6)
    image.thumbnail((3, 3))
    assert shown(image).tolist() == np.asarray(image.transpose(Image.Transpose.ROTATE_270)).tolist()
    image = Image.fromarray(GRAY)
    image.getexif()[ORIENTATION] = 6
    assert shown(image).tolist() == GRAY.tolist()


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")  # Pillow's own.
def test_damaged_exif_data_turn_nothing():
    image = photo(6)
    image.info["exif"] = b"Exif\0\0II*\0\xff\xff\xff\xff"
    assert shown(image).tolist() == np.asarray(LYING[6]).tolist()
    image = photo(6)
    image.info["exif"] = b"no EXIF at all"
    assert shown(image).tolist() == np.asarray(LYING[6]).tolist()


def test_16_bit_photos_are_turned_too():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert shown(opened(Image.fromarray(SIXTEEN_BITS), exif=exif)).tolist() == np.rot90(UPPER_BITS, -1).tolist()
