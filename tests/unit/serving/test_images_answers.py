"""The astronaut in files as phones, editors and messengers write them: one face, where it is in the plain file."""

import io
import zlib

import numpy as np
import pytest
from jpeg_files import (
    APP0,
    APP1,
    APP2,
    APP13,
    APP14,
    DQT,
    END,
    encode_sampled,
    insert,
    put_together,
    segment,
    take_apart,
)
from pictures import encode, intersection_over_union, png_chunk
from PIL import Image

from fer_detector import YUNET, open_network
from fer_faces import find_faces
from fer_images import ImageLimits
from fer_search import FaceSearch

LIMITS = ImageLimits()
ASTRONAUT_BOX = np.array([179, 62, 267, 173], np.float32)


@pytest.fixture(scope="module")
def detector() -> FaceSearch:
    return FaceSearch(open_network(YUNET))


def odd_scan(photo: Image.Image) -> bytes:
    segments = take_apart(encode(photo, "JPEG", quality=90))
    segments[-1].content = segments[-1].content[:-3] + bytes(3)
    return put_together(segments)


def adobe_transform_3(photo: Image.Image) -> bytes:
    segments = [part for part in take_apart(encode(photo, "JPEG", quality=90)) if part.marker != APP0]
    return insert(put_together(segments), DQT, segment(APP14, b"Adobe\0\x64\0\0\0\0\3"))


def motion_photo(photo: Image.Image) -> bytes:
    """12 megapixels, and a film of 6 MB behind them in which there are the marks of scans and of pictures."""
    xmp = segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta GCamera:MotionPhoto='1'/>")
    still = insert(encode(photo.resize((3464, 3464)), "JPEG", quality=90), DQT, xmp)
    return still + b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(6_000_000) + b"\xff\xd8\xff\xda"


def several_pictures(photo: Image.Image) -> bytes:
    return encode(photo, "MPO", save_all=True, append_images=[photo.resize((256, 256)).convert("L")])


def photoshop(photo: Image.Image) -> bytes:
    large = segment(APP13, b"Photoshop 3.0\08BIM" + bytes(60_000)) * 12
    profile = b"".join(segment(APP2, b"ICC_PROFILE\0" + bytes((i + 1, 4)) + bytes(65_000)) for i in range(4))
    return insert(encode(photo, "JPEG", quality=90, progressive=True), DQT, large + profile)


def damaged_text(photo: Image.Image) -> bytes:
    data = encode(photo)
    text = png_chunk(b"tEXt", b"Comment\0by hand")[:-1] + b"?"
    return data[:33] + text + data[33:]


def large_text(photo: Image.Image) -> bytes:
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(range(256)) * 6000, 0))
    data = encode(photo)
    return data[:33] + text + data[33:]


def cut_out(photo: Image.Image) -> bytes:
    """The face on nothing; under the nothing lies noise, as editors leave it there."""
    pixels = np.dstack([np.asarray(photo), np.zeros((512, 512), np.uint8)])
    pixels[30:220, 140:310, 3] = 255
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)[..., :3]
    pixels[..., :3] = np.where(pixels[..., 3:] > 0, pixels[..., :3], noise)
    return encode(Image.fromarray(pixels))


FILES = {
    "a scan of no range": odd_scan,
    "an unknown colour transform": adobe_transform_3,
    "sampling 3x1": lambda photo: encode_sampled(photo, [(3, 1), (1, 1), (1, 1)]),
    "a motion photo": motion_photo,
    "several pictures": several_pictures,
    "Photoshop": photoshop,
    "CMYK": lambda photo: encode(photo.convert("CMYK"), "JPEG", quality=90),
    "no end": lambda photo: encode(photo, "JPEG", quality=90)[:-2],
    "a webcam's stray bytes": lambda photo: encode(photo, "JPEG", quality=90)[:-2] + bytes(7) + END,
    "PNG with a damaged text": damaged_text,
    "PNG with a text of 1.5 MB": large_text,
    "PNG of a palette": lambda photo: encode(photo.quantize(256)),
    "PNG on nothing": cut_out,
    "moving PNG": lambda photo: encode(photo, save_all=True, append_images=[Image.new("RGB", photo.size)]),
    "moving WebP": lambda photo: encode(photo, "WEBP", save_all=True, append_images=[Image.new("RGB", photo.size)]),
    "BMP": lambda photo: encode(photo, "BMP"),
}


@pytest.mark.parametrize("kind", FILES)
def test_there_is_one_face(astronaut, detector, kind):
    photo = Image.open(io.BytesIO(astronaut)).convert("RGB")
    faces = find_faces(FILES[kind](photo), detector, LIMITS)
    assert len(faces.boxes) == 1
    box = faces.boxes[0] * 512 / faces.image_size[0]
    assert intersection_over_union(box, ASTRONAUT_BOX) > 0.85
