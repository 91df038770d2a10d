"""fer_images: what is decoded, what is refused, and that nothing large is decoded for nothing."""

import io

import numpy as np
import pytest
from pictures import STORED_AS, encode, encode_png_rows, encode_turned, png_file
from PIL import Image

from fer_images import ImageLimits, ImageRefusedError, decode_image

LIMITS = ImageLimits()


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    return Image.open(io.BytesIO(astronaut)).convert("RGB").crop((100, 0, 420, 240))  # 320 x 240, not square


def decode(data: bytes, enough_px: int = 10_000) -> np.ndarray:
    return decode_image(data, LIMITS, enough_px).pixels


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_lossless_formats_are_decoded_exactly(photo, format):
    assert np.array_equal(decode(encode(photo, format)), np.asarray(photo)[..., ::-1])


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_are_decoded_closely(photo, format):
    difference = decode(encode(photo, format, quality=95)).astype(int) - np.asarray(photo)[..., ::-1]
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_png_modes_become_bgr(photo, mode):
    expected = np.asarray(photo.convert(mode).convert("RGB"))[..., ::-1]
    assert np.abs(decode(encode(photo.convert(mode))).astype(int) - expected).max() <= 1


def test_gray_keeps_its_values(photo):
    gray = photo.convert("L")
    pixels = decode(encode(gray))
    assert np.array_equal(pixels, np.repeat(np.asarray(gray)[..., None], 3, axis=2))


@pytest.mark.parametrize(("channels", "color_type"), [(1, 0), (3, 2), (4, 6)])
def test_16_bit_png_is_reduced_to_8_bit(photo, channels, color_type):
    samples = np.asarray(photo.convert("RGBA"))[..., :channels]
    pixels = decode(encode_png_rows(samples.astype(np.uint16) * 257, color_type))
    expected = samples[..., :3][..., ::-1] if channels > 1 else np.repeat(samples, 3, axis=2)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_cmyk_jpeg_is_decoded(photo):
    difference = decode(encode(photo.convert("CMYK"), "JPEG", quality=95)).astype(int) - np.asarray(photo)[..., ::-1]
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_exif_orientation_is_undone(photo, orientation, format):
    image = decode_image(encode_turned(photo, orientation, format), LIMITS, 10_000)
    assert (image.width_px, image.height_px) == (320, 240)
    assert np.abs(image.pixels.astype(int) - np.asarray(photo)[..., ::-1]).mean() < 6


def test_nonsense_in_exif_is_ignored(photo):
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(encode(photo, "JPEG", exif=exif)).shape == (240, 320, 3)
    assert decode(encode(photo, "JPEG", exif=b"Exif\0\0" + bytes(range(64)))).shape == (240, 320, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "enough_px", "expected"),
    [
        ((4000, 3000), 1280, (1500, 2000, 3)),  # at 1/4, a square of 1280 px would have more
        ((4000, 3000), 500, (750, 1000, 3)),
        ((1001, 777), 400, (389, 501, 3)),
        ((4000, 100), 300, (50, 2000, 3)),
        ((400, 300), 10, (38, 50, 3)),
    ],
)
def test_a_large_image_comes_at_a_half_a_quarter_or_an_eighth(photo, format, size, enough_px, expected):
    image = decode_image(encode(photo.resize(size), format), LIMITS, enough_px)
    assert (image.width_px, image.height_px) == size
    assert image.pixels.shape == expected
    assert np.allclose(image.scale, [size[0] / expected[1], size[1] / expected[0]])


def test_a_reduced_png_is_like_a_reduced_jpeg(photo):
    files = [encode(photo.resize((1601, 1203)), *how) for how in (["PNG"], ["JPEG"])]
    png, jpeg = (decode_image(data, LIMITS, 600).pixels.astype(int) for data in files)
    assert np.abs(png - jpeg).mean() < 2


def test_a_small_jpeg_is_decoded_at_full_size(photo):
    assert decode(encode(photo, "JPEG"), enough_px=1280).shape == (240, 320, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_extreme_shapes_are_decoded(size, format):
    assert decode(encode(Image.new("RGB", size), format), enough_px=1280).size > 0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_half_a_file_is_refused(photo, format, kept):
    data = encode(photo, format)
    with pytest.raises(ImageRefusedError, match="truncated or corrupt|not an image that can be read"):
        decode(data[: int(len(data) * kept)])


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_half_a_jpeg_is_refused_even_with_an_end(photo, kept, progressive):
    data = encode(photo, "JPEG", progressive=progressive)
    with pytest.raises(ImageRefusedError, match="320x240 px is truncated or corrupt"):
        decode(data[: int(len(data) * kept)] + b"\xff\xd9")


def test_a_jpeg_with_stray_bytes_between_markers_is_decoded(photo):
    """libjpeg warns about them; the picture is whole."""
    data = encode(photo, "JPEG")
    tables = data.index(b"\xff\xc0")
    assert decode(data[:tables] + bytes(4) + data[tables:]).shape == (240, 320, 3)


def test_a_jpeg_with_a_second_image_behind_it_is_a_jpeg(photo):
    data = encode(photo.resize((2400, 1800)), "MPO", save_all=True, append_images=[photo])
    image = decode_image(data, LIMITS, 1000)
    assert (image.width_px, image.height_px) == (2400, 1800)
    assert image.pixels.shape[1] < 2400


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(photo):
    data = encode(photo.convert("L").resize((2000, 2000)), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    decode(data)
    with pytest.raises(ImageRefusedError, match="px has 1,00. scans. Save it as a baseline JPEG") as refusal:
        decode(data[:-2] + last_scan[:14] * 1000 + b"\xff\xd9")
    assert refusal.value.reason == "too_many_scans"


def test_a_side_longer_than_opencv_takes_is_decoded():
    assert decode(encode(Image.new("L", (1_100_000, 1)), "BMP")).shape == (1, 1_100_000, 3)


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", bytes(1000), b"<!doctype html><p>404", b"RIFF\0\0\0\0AVI "])
def test_what_is_no_accepted_image_is_refused(data):
    with pytest.raises(ImageRefusedError, match="can be read, or only the start of one. Accepted are JPEG") as refusal:
        decode(data)
    assert refusal.value.reason == "not_an_image"


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "a GIF file"),
        (b"II*\0", "a TIFF file"),
        (b"MM\0*", "a TIFF file"),
        (b"\0\0\0\x24ftypheic", "a HEIC file"),
        (b"\0\0\0\x18ftypmif1", "a HEIC file"),
        (b"\0\0\0\x1cftypavif", "an AVIF file"),
        (b"\0\0\0\x18ftypmp42", "a film or a picture in a film's format"),
        (b"\xff\x0a", "a JPEG XL file"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
        (b"8BPS", "a Photoshop file"),
        (b"%PDF-1.7", "a PDF file"),
    ],
)
def test_other_formats_are_refused_by_name(start, name):
    with pytest.raises(ImageRefusedError, match=f"the bytes are {name}, which is not accepted. Accepted are JPEG, PNG"):
        decode(start + bytes(1000))


@pytest.mark.parametrize("format", ["GIF", "TIFF", "AVIF"])
def test_what_pillow_could_read_is_refused_by_name(photo, format):
    with pytest.raises(ImageRefusedError, match=f"an? {format} file.* Accepted are JPEG, PNG, WebP and BMP"):
        decode(encode(photo, format))


def test_no_bytes_are_refused():
    with pytest.raises(ImageRefusedError, match="there are no bytes"):
        decode(b"")


def test_too_many_bytes_are_refused():
    with pytest.raises(ImageRefusedError, match="101 bytes are over the limit of 100"):
        decode_image(bytes(101), ImageLimits(max_bytes=100), 1280)


def test_the_pixel_limit_is_exact(photo):
    data = encode(photo)
    assert decode_image(data, ImageLimits(max_pixels=320 * 240), 1280).width_px == 320
    with pytest.raises(ImageRefusedError, match="320x240 is over the limit of 76,799 pixels"):
        decode_image(data, ImageLimits(max_pixels=320 * 240 - 1), 1280)


@pytest.mark.parametrize("side", [60_000, 8_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    with pytest.raises(ImageRefusedError, match="over the limit of 50,000,000 pixels") as refusal:
        decode(png_file(side, side, b""))
    assert refusal.value.reason == "too_many_pixels"


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_pixels": 0}, {"max_pixels": 10**9}])
def test_senseless_limits_are_refused(limits):
    with pytest.raises(ValueError, match="must be"):
        ImageLimits(**limits)
