"""fer_jpeg: what may stand in a JPEG file beside its pixels, and how missing and wrong pixels show."""

import io
import struct

import numpy as np
import pytest
from jpeg_files import (
    APP0,
    APP1,
    APP2,
    APP13,
    APP14,
    COM,
    DHT,
    DNL,
    DQT,
    END,
    SOF0,
    SOS,
    Segment,
    change_scan,
    encode_sampled,
    insert,
    put_together,
    segment,
    take_apart,
    tiff,
    with_exif,
)
from pictures import encode
from PIL import Image

from fer_images import ImageLimits, ImageRefusedError, decode_image

LIMITS = ImageLimits()
KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with restart markers": {"restart_marker_blocks": 7},
    "gray": {},
}
NOISE = np.random.default_rng(3).bytes(3000).replace(b"\xff", b"\xfe")


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    return Image.open(io.BytesIO(astronaut)).convert("RGB").crop((100, 0, 420, 240))  # 320 x 240, not square


@pytest.fixture(scope="module")
def plain(photo: Image.Image) -> bytes:
    return encode(photo, "JPEG", quality=90)


@pytest.fixture(scope="module", params=KINDS)
def file(request: pytest.FixtureRequest, photo: Image.Image) -> bytes:
    return encode(photo.convert("L") if request.param == "gray" else photo, "JPEG", quality=90, **KINDS[request.param])


def decode(data: bytes, enough_px: int = 10_000) -> np.ndarray:
    return decode_image(data, LIMITS, enough_px).pixels


def thumbnail(photo: Image.Image) -> bytes:
    return encode(photo.resize((160, 120)), "JPEG", progressive=True)


def change_segment(data: bytes, marker: int, change) -> bytes:
    segments = take_apart(data)
    wanted = next(part for part in segments if part.marker == marker)
    wanted.content = change(wanted.content)
    return put_together(segments)


DECORATED = {
    "a scan without its range": lambda d: change_segment(d, SOS, lambda c: c[:-3] + b"\0\0\0"),
    "a scan of odd bits": lambda d: change_segment(d, SOS, lambda c: c[:-1] + b"\x21"),
    "an unknown version of JFIF": lambda d: change_segment(d, APP0, lambda c: c[:5] + b"\7\7" + c[7:]),
    "a JFIF segment said to be too short": lambda d: d[:4] + b"\0\x09" + d[6:],
    "a JFIF segment said to be too long": lambda d: d[:4] + b"\0\x14" + d[6:],
    "a JFIF segment without a length": lambda d: d[:4] + b"\0\0" + d[6:],
    "no end": lambda d: d[:-2],
    "half an end": lambda d: d[:-1],
    "several ends": lambda d: d + END * 5,
    "trailing rubbish": lambda d: d + NOISE,
    "trailing zeros": lambda d: d + bytes(100_000),
    "a second picture behind it": lambda d: d + d,
    "3000 stray bytes between segments": lambda d: insert(d, DQT, NOISE),
    "stray bytes in front of the scan": lambda d: insert(d, SOS, NOISE[:50]),
    "filling in front of markers": lambda d: insert(d, DHT, b"\xff" * 999),
    "unknown markers": lambda d: insert(d, DHT, segment(0xF3, b"what?") + segment(0x4F) + b"\xff\x01\xff\xd3"),
    "comments": lambda d: insert(d, SOF0, segment(COM, b"\xff\xda\xff\xd9") * 500),
    "Photoshop's resources": lambda d: insert(d, DQT, segment(APP13, b"Photoshop 3.0\0" + bytes(65_000)) * 40),
    "a colour profile in damaged parts": lambda d: insert(d, DQT, segment(APP2, b"ICC_PROFILE\0\7\1" + NOISE) * 90),
    "XMP": lambda d: insert(d, DQT, segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + NOISE[:2000])),
    "8 stray bytes behind the scan": lambda d: change_scan(d, lambda s: s + NOISE[:8]),
    "zeros behind the scan": lambda d: change_scan(d, lambda s: s + bytes(512)),
    "DNL": lambda d: (
        change_segment(d, SOF0, lambda c: c[:1] + b"\0\0" + c[3:])[:-2] + segment(DNL, struct.pack(">H", 240)) + END
    ),
    "DNL without need": lambda d: d[:-2] + segment(DNL, struct.pack(">H", 77)) + END,
}


@pytest.mark.parametrize("how", DECORATED)
def test_what_is_no_pixel_has_no_veto(plain, how):
    assert np.array_equal(decode(DECORATED[how](plain)), decode(plain))


@pytest.mark.parametrize("transform", [2, 3, 77, 255])
def test_an_unknown_colour_transform_is_the_usual_one(plain, transform):
    marks = segment(APP14, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
    without_jfif = put_together([part for part in take_apart(plain) if part.marker != APP0])
    assert np.array_equal(decode(insert(without_jfif, DQT, marks)), decode(plain))


def test_rgb_without_jfif_is_told_by_its_mark(photo):
    data = encode(photo, "JPEG", quality=95, keep_rgb=True)
    assert np.abs(decode(data).astype(int) - np.asarray(photo)[..., ::-1]).mean() < 3


def test_cmyk_is_stored_inverted(photo):
    inks = photo.convert("CMYK")
    data = encode(inks, "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[..., ::-1]
    assert np.abs(decode(data).astype(int) - expected).max() <= 1
    assert decode(encode(inks.resize((1600, 1200)), "JPEG"), enough_px=600).shape == (600, 800, 3)


@pytest.mark.parametrize(
    "sampling",
    [
        [(1, 1), (1, 1), (1, 1)],
        [(2, 1), (1, 1), (1, 1)],
        [(1, 2), (1, 1), (1, 1)],
        [(2, 2), (1, 1), (1, 1)],
        [(4, 1), (1, 1), (1, 1)],
        [(1, 4), (1, 1), (1, 1)],
        [(4, 2), (1, 1), (1, 1)],
        [(2, 4), (1, 1), (1, 1)],
        [(3, 1), (1, 1), (1, 1)],
        [(1, 3), (1, 1), (1, 1)],
        [(3, 2), (1, 1), (1, 1)],
        [(2, 3), (1, 1), (1, 1)],
        [(2, 2), (2, 1), (2, 1)],
        [(2, 2), (2, 1), (1, 2)],
        [(2, 1), (2, 1), (2, 1)],
        [(1, 1), (2, 2), (1, 1)],
    ],
    ids=lambda sampling: " ".join(f"{h}x{v}" for h, v in sampling),
)
def test_every_sampling_is_decoded(photo, sampling):
    small = photo.resize((130, 70))
    data = encode_sampled(small, sampling)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[..., ::-1]
    assert np.abs(decode(data).astype(int) - expected).max() <= 4
    assert np.abs(expected.astype(int) - np.asarray(small)[..., ::-1]).mean() < 12


@pytest.mark.parametrize("sampling", [[(3, 1), (1, 1), (1, 1)], [(2, 2), (1, 1), (1, 1)]], ids=["3x1", "2x2"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s[: len(s) // 2],
        lambda s: s[:-40],
        lambda s: s[: len(s) // 2] + s[len(s) // 2 + 300 :],
        lambda s: s[: len(s) // 2] + s[len(s) // 2 - 300 :],
    ],
    ids=["half", "without its end", "lost", "doubled"],
)
def test_damage_is_seen_with_any_sampling(photo, sampling, damage):
    data = encode_sampled(photo.resize((130, 70)), sampling)
    with pytest.raises(ImageRefusedError, match="130x70 px is truncated or corrupt"):
        decode(change_scan(data, damage))


def lose(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 + 300 :]


def double(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 - 300 :]


def zero(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


@pytest.mark.parametrize("damage", [lose, double, zero])
def test_data_lost_or_doubled_in_the_middle_is_refused(file, damage):
    scans = len([part for part in take_apart(file) if part.marker == SOS])
    for scan in range(min(scans, 6)):  # the last scans of a progressive file refine: any bits have a meaning there
        with pytest.raises(ImageRefusedError, match="320x240 px is truncated or corrupt"):
            decode(change_scan(file, damage, scan))


def test_a_scan_that_ends_early_is_refused(file):
    for scan in range(len([part for part in take_apart(file) if part.marker == SOS])):
        with pytest.raises(ImageRefusedError, match="corrupt: its data end before its pixels do"):
            decode(change_scan(file, lambda s: s[: len(s) // 2], scan))


@pytest.mark.parametrize("count", [17, 300])  # libjpeg has taken up to 8 of them before it counts
def test_more_than_a_few_stray_bytes_behind_a_scan_are_refused(file, count):
    with pytest.raises(ImageRefusedError, match="corrupt: it has more data than pixels"):
        decode(change_scan(file, lambda s: s + NOISE[:count]))


@pytest.mark.parametrize("scan", range(10))
def test_a_few_stray_bytes_behind_any_scan_are_forgiven(photo, scan):
    file = encode(photo, "JPEG", progressive=True)
    assert np.array_equal(decode(change_scan(file, lambda s: s + NOISE[:5], scan)), decode(file))


@pytest.mark.parametrize("end", [b"", END], ids=["without an end", "with an end"])
@pytest.mark.parametrize("scan", range(10))
def test_a_progressive_file_without_one_of_its_scans_is_refused(photo, scan, end):
    segments = take_apart(encode(photo, "JPEG", progressive=True))
    scans = [part for part in segments if part.marker == SOS]
    with pytest.raises(ImageRefusedError, match="corrupt: a scan of it is missing|corrupt: its data are damaged"):
        decode(put_together([part for part in segments if part is not scans[scan]], end))


@pytest.mark.parametrize("scan", range(10))
def test_a_progressive_file_with_a_scan_twice_is_refused(photo, scan):
    segments = take_apart(encode(photo, "JPEG", progressive=True))
    twice = [part for part in segments if part.marker == SOS][scan]
    doubled = put_together([copy for part in segments for copy in [part] * (1 + (part is twice))])
    with pytest.raises(ImageRefusedError, match="corrupt: its data are damaged"):
        decode(doubled)


@pytest.mark.parametrize("wrong", [b"", b"\xff\xd3\xff\xd3", b"\xff\xd6"], ids=["missing", "doubled", "another"])
def test_a_wrong_restart_marker_is_refused(photo, wrong):
    file = encode(photo, "JPEG", restart_marker_blocks=7)
    with pytest.raises(ImageRefusedError, match="320x240 px is truncated or corrupt"):
        decode(change_scan(file, lambda s: s.replace(b"\xff\xd3", wrong, 1)))


def test_a_component_without_a_scan_is_refused(photo):
    segments = take_apart(encode(photo, "JPEG"))
    scan = segments[-1]
    gray = take_apart(encode(photo.convert("L"), "JPEG"))[-1]
    scan.content, scan.data = gray.content, gray.data
    with pytest.raises(ImageRefusedError, match="corrupt: a scan of it is missing"):
        decode(put_together(segments))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: b"\x0c" + c[1:], "a JPEG file of 12 bits a sample, which is not accepted. Save it as a baseline"),
        (lambda c: c[:5] + b"\2" + c[6:-3], "a JPEG file of 2 components, which is not accepted"),
    ],
)
def test_rare_frames_are_refused_by_name(plain, change, complaint):
    with pytest.raises(ImageRefusedError, match=complaint) as refusal:
        decode(change_segment(plain, SOF0, change))
    assert refusal.value.reason == "not_an_image"


@pytest.mark.parametrize(("marker", "name"), [(0xC3, "lossless"), (0xCB, "lossless"), (0xC5, "hierarchical")])
def test_rare_processes_are_refused_by_name(plain, marker, name):
    segments = [Segment(marker, p.content) if p.marker == SOF0 else p for p in take_apart(plain)]
    with pytest.raises(ImageRefusedError, match=f"a {name} JPEG file, which is not accepted. Save it as a baseline"):
        decode(put_together(segments))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: b"\0" + d,
        lambda d: NOISE[:500] + d,
        lambda d: d[:2] + segment(APP2, bytes(20))[:8],
        lambda d: d[:2] + d[2:][: d.index(b"\xff\xc0")],
        lambda d: change_segment(d, SOF0, lambda c: c[:1] + bytes(4) + c[5:]),
        lambda d: change_segment(d, SOF0, lambda c: c[:1] + bytes(2) + c[3:]),
        lambda d: change_segment(d, SOF0, lambda c: c[:4]),
    ],
    ids=["leading byte", "leading rubbish", "half a segment", "no frame", "no size", "no height", "short frame"],
)
def test_what_has_no_readable_header_is_no_image(plain, spoil):
    with pytest.raises(ImageRefusedError, match="not an image that can be read, or only the start of one") as refusal:
        decode(spoil(plain))
    assert refusal.value.reason == "not_an_image"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: insert(d, SOS, b"\xff\xd8"), "a second image begins inside of it"),
        (lambda d: insert(d, SOS, next(p for p in take_apart(d) if p.marker == SOF0).write()), "two frame headers"),
        (lambda d: change_segment(d, SOS, lambda c: c[:-1]), "a scan has no proper header"),
        (lambda d: change_segment(d, SOS, lambda c: c[:1] + b"\x09" + c[2:]), "a scan is of no component of it"),
        (lambda d: put_together([p for p in take_apart(d) if p.marker != DQT]), "its data are damaged"),
    ],
)
def test_what_breaks_off_or_contradicts_itself_is_corrupt(plain, spoil, reason):
    with pytest.raises(ImageRefusedError, match=f"320x240 px is truncated or corrupt: .*{reason}. Send a whole copy"):
        decode(spoil(plain))


def test_a_thumbnail_is_not_counted(photo, plain):
    inside = plain[:2] + segment(APP1, b"Exif\0\0" + tiff(1) + thumbnail(photo)) + plain[2:]
    assert np.array_equal(decode(inside), decode(plain))


def test_a_film_behind_a_large_photo_is_not_looked_at(photo):
    """As phones write it: the 6 MB hold what looks like a hundred scans."""
    large = encode(photo.resize((4000, 3000)), "JPEG")
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(6_000_000)
    assert film.count(b"\xff\xda") > 60
    assert np.array_equal(decode(large + film, 1280), decode(large, 1280))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_orientation_is_read_in_either_order_and_any_type(plain, order, kind):
    image = decode_image(with_exif(plain, tiff(6, order, kind, at=5000)), LIMITS, 10_000)
    assert (image.width_px, image.height_px) == (240, 320)
    assert np.array_equal(image.pixels, np.rot90(decode(plain), -1))


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"XX" + tiff(6)[2:],
        tiff(6)[:4] + b"\xff" * 4 + tiff(6)[8:],
        tiff(6)[:4] + b"\4\0\0\0" + tiff(6)[8:],
        tiff(6)[:16],
        tiff(0),
        tiff(9),
        tiff(6).replace(b"\x12\1\3\0", b"\x12\1\7\0"),
        tiff(6).replace(b"\1\0\x12\1", b"\xff\xff\x13\1"),
    ],
    ids=range(10),
)
def test_a_damaged_exif_block_turns_nothing(plain, exif):
    assert np.array_equal(decode(with_exif(plain, exif)), decode(plain))


def test_the_first_exif_block_counts_and_none_behind_the_pixels(plain):
    turned = with_exif(plain, tiff(6))
    assert np.array_equal(decode(insert(turned, DQT, segment(APP1, b"Exif\0\0" + tiff(3)))), decode(turned))
    assert np.array_equal(decode(with_exif(turned, tiff(3))), decode(with_exif(plain, tiff(3))))
    behind = plain[:-2] + segment(APP1, b"Exif\0\0" + tiff(6)) + END
    assert np.array_equal(decode(behind), decode(plain))


def test_millions_of_segments_are_not_followed(plain):
    with pytest.raises(ImageRefusedError, match="only the start of one"):
        decode(plain[:2] + segment(COM) * 4_000_000 + plain[2:])
