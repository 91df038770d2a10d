"""JPEG files: their structure by walking the markers, their pixels by libjpeg-turbo. Used by `fer_images`.

The decoder is handed a file made anew of what carries pixels: the tables, the frame, the scans up to the first end of
the image. Thumbnails, profiles, comments, what lies behind the image, and headers that say nothing about pixels never
reach it, so that **whatever it then complains about is about pixels, and the file is refused.** One complaint is
forgiven: a few stray bytes behind the data of a scan, which some webcams leave there.

libjpeg's warnings (`JWRN_*` in its jerror.h), and what is made of each:

| warning | meaning | here |
|---|---|---|
| ADOBE_XFORM | an unknown colour transform | taken for the usual one, as libjpeg does |
| BOGUS_ICC | a damaged colour profile | never read |
| JFIF_MAJOR | an unknown version of JFIF | written anew |
| NOT_SEQUENTIAL | a baseline scan with a progressive one's parameters | written anew |
| EXTRANEOUS_DATA, in front of the first scan | stray bytes, a wrong length of a comment | left out |
| EXTRANEOUS_DATA, behind a scan | up to 8 bytes, or zeros | left out |
| EXTRANEOUS_DATA, behind a scan | more | refused: data doubled or lost in the middle |
| EXTRANEOUS_DATA, in front of a restart marker | a stripe that has other data than its pixels need | refused |
| JPEG_EOF | no end-of-image marker | added; refused if a scan or bits of one are missing |
| HIT_MARKER | a scan that ends before its pixels do | refused |
| HUFF_BAD_CODE, ARITH_BAD_CODE | no such code | refused |
| MUST_RESYNC | a restart marker missing or doubled | refused |
| BOGUS_PROGRESSION | a progressive scan missing or doubled | refused |
| TOO_MUCH_DATA | the caller reads fewer rows than there are | cannot happen |

Of two things libjpeg says nothing: a component of which no scan tells, and bits of a progressive image that no scan
brings. Both are refused too.
"""

import io
import math
import re
import struct
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from fer_refusals import ImageRefusedError, corrupt, unreadable, unsupported

MAX_SCANS: Final = 2_000
"""A progressive image has about 10."""
_MAX_MARKERS: Final = 100_000
"""20 MiB of comments without a word in them would be five million. Real files have up to 500."""
_FEW_BYTES: Final = 8
"""As many may be left over behind the data of a scan by libjpeg's count, which leaves out up to 8 that it has read
ahead. Webcams leave a few; doubled data are hundreds."""

_MARKER: Final = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_END_OF_DATA: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""In the data of a scan 0xFF00 is one byte, 0xFFD0 to 0xFFD7 are restart markers, and 0xFFFF is filling."""

_SOI, _EOI, _SOS, _DNL, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xDC, 0xE0, 0xE1, 0xEE
_TABLES: Final = (0xC4, 0xCC, 0xDB, 0xDD)
"""DHT, DAC, DQT, DRI."""
_ALONE: Final = (0x01, *range(0xD0, 0xD8))
"""TEM and the restart markers have no length behind them."""
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_UNSUPPORTED: Final = {
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG file"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG file"),
}

_REMEDY: Final = "Save it as a baseline JPEG file of 8 bits a sample"

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_JFIF: Final = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_SEPARATORS: Final = [bytes((0xFF, marker, 0, 2)) for marker in range(0xE1, 0xEE)]
"""Empty APP1 to APP13. One stands behind the data of each scan, so that a warning tells which scan it is about."""
_STRAY: Final = re.compile(r"(\d+) extraneous bytes before marker 0x(e[1-d])")
_NO_SUBSAMPLING: Final = "subsampling"
"""In TurboJPEG's complaint about sampling factors that it has no name for, such as 3x1. libjpeg decodes them."""

Bytes: TypeAlias = bytes | memoryview


@dataclass(frozen=True)
class JpegFile:
    """A JPEG file of which only the structure was read."""

    width: int
    """In px, as stored."""
    height: int
    """In px, as stored."""
    scans: int
    """How often a decoder passes over the image."""
    exif: bytes
    """What stands in front of the first scan, or nothing."""
    components: int
    """1 is gray, 3 a colour, 4 CMYK or YCCK."""
    pieces: list[Bytes]
    """What carries pixels, to be joined to a file for the decoder."""
    data: list[int]
    """Which pieces are the data of a scan."""

    def decode(self, enough_px: int) -> npt.NDArray[np.uint8]:
        """Decode the pixels.

        Args:
            enough_px: They may come at n/8 of their size as long as the longest side keeps at least this many.

        Returns:
            uint8, (height, width, 3), BGR, 0..255, as stored.

        Raises:
            ImageRefusedError: Pixels are missing or wrong.
        """
        try:
            return self._decode(self.pieces, enough_px)
        except ValueError as error:
            if _NO_SUBSAMPLING in str(error):
                return self._decode_with_pillow(enough_px)
            pieces = self._without_stray_bytes(str(error))
        try:
            return self._decode(pieces, enough_px)
        except ValueError as error:
            self._refuse(str(error))

    def _decode(self, pieces: list[Bytes], enough_px: int) -> npt.NDArray[np.uint8]:
        ratio = min(1.0, enough_px / max(self.width, self.height))
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            b"".join(pieces),
            "CMYK" if self.components == 4 else "BGR",
            min_width=max(1, int(self.width * ratio)),
            min_height=max(1, int(self.height * ratio)),
            min_factor=1,
        )
        return _cmyk_to_bgr(pixels) if self.components == 4 else pixels

    def _without_stray_bytes(self, complaint: str) -> list[Bytes]:
        """Return the pieces without what is left over behind the data of one scan, if that is forgiven."""
        stray = _STRAY.search(complaint)
        separator = bytes((0xFF, int(stray[2], 16), 0, 2)) if stray else b""
        places = [index for index in self.data if self.pieces[index + 1] == separator]
        if stray is None or len(places) != 1:
            self._refuse(complaint)
        data, count = bytes(self.pieces[places[0]]), int(stray[1])
        if count <= _FEW_BYTES:
            kept = data[:-count]
        elif not any(data[-count:]):  # Where the pixels need some of these zeros, too little is left now.
            kept = data.rstrip(b"\0")
        else:
            self._refuse(complaint)
        pieces = list(self.pieces)
        pieces[places[0]] = kept + b"\0" if kept.endswith(b"\xff") else kept
        return pieces

    def _refuse(self, complaint: str) -> NoReturn:
        if "supported" in complaint.lower():
            raise unsupported("a JPEG file of a rare kind", _REMEDY) from None
        reason = "its data end before its pixels do" if "premature" in complaint.lower() else "its data are damaged"
        if "extraneous" in complaint:
            reason = "it has more data than pixels"
        raise corrupt("JPEG", self.width, self.height, reason) from None

    def _decode_with_pillow(self, enough_px: int) -> npt.NDArray[np.uint8]:
        """Decode sampling factors that TurboJPEG has no name for. Pillow keeps libjpeg's warnings to itself.

        So the picture is held against what becomes of it with other data at its end: as long as its own data are
        whole, what follows them makes no difference; and without its last bytes it is not the same.
        """
        last = self.data[-1]
        before, data, behind = self.pieces[:last], bytes(self.pieces[last]), self.pieces[last + 1 :]
        pixels = self._open([*before, data, *behind], enough_px)
        if not np.array_equal(pixels, self._open([*before, data, b"\x35\xca" * 64, *behind], enough_px)):
            self._refuse("premature end")
        shorter = data[: -2 * _FEW_BYTES].rstrip(b"\xff")
        if self.scans == 1 and np.array_equal(pixels, self._open([*before, shorter, *behind], enough_px)):
            self._refuse("extraneous bytes")
        return pixels

    def _open(self, pieces: list[Bytes], enough_px: int) -> npt.NDArray[np.uint8]:
        try:
            with Image.open(io.BytesIO(b"".join(pieces)), formats=["JPEG"]) as image:
                ratio = min(1.0, enough_px / max(image.size))
                image.draft(None, (max(1, math.ceil(image.width * ratio)), max(1, math.ceil(image.height * ratio))))
                return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
        except Exception as error:  # Pillow raises a dozen kinds on hostile files.
            self._refuse(str(error))


def read_jpeg(data: bytes) -> JpegFile:
    """Walk the markers of a JPEG file up to the first end of an image. Nothing is decoded.

    Args:
        data: Begins with the mark of a JPEG file.

    Raises:
        ImageRefusedError: The structure cannot be followed, is of a kind that is not accepted, or some of the image is
            not there.
    """
    walk = _Walk(data)
    walk.follow()
    return walk.finish()


@dataclass
class _Walk:
    """What was seen on the way through a file."""

    file: bytes
    pieces: list[Bytes] = field(default_factory=list)
    data: list[int] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    has_jfif: bool = False
    adobe_transform: int | None = None
    frame: int | None = None
    """Which piece is the frame's header."""
    process: int = 0
    """The frame's marker."""
    width: int = 0
    height: int = 0
    unsent: dict[int, list[int]] = field(default_factory=dict)
    """By component, for each of its 64 coefficients: how many of its last bits no scan has brought yet."""

    def follow(self) -> None:
        position = len(_START)
        for _ in range(_MAX_MARKERS):
            found = _MARKER.search(self.file, position)
            if found is None or found[1][0] == _EOI:
                return
            marker, position = found[1][0], found.end()
            if marker == _SOI:
                self.refuse("a second image begins inside of it")
            if marker in _ALONE:
                continue
            end = position + max(2, int.from_bytes(self.file[position : position + 2], "big"))
            if end > len(self.file):
                return
            content = self.file[position + 2 : end]
            if marker == _APP0 and self.file[end : end + 1] != b"\xff":
                end = position + 2  # Its length is wrong, and there is nothing in it that could be taken for a marker.
            position = end
            if marker == _SOS:
                position = self.take_scan(content, end)
            else:
                self.take_segment(marker, content)
        self.refuse("it has too many segments")

    def take_segment(self, marker: int, content: bytes) -> None:
        if marker in _TABLES:
            self.pieces.append(_segment(marker, content))
        elif marker in _UNSUPPORTED:
            raise unsupported(_UNSUPPORTED[marker], _REMEDY)
        elif marker in _SEQUENTIAL or marker in _PROGRESSIVE:
            self.take_frame(marker, content)
        elif marker == _DNL and self.height == 0 and len(content) == 2:
            self.height = int.from_bytes(content, "big")
        elif self.data:
            return
        elif marker == _APP0 and content.startswith(b"JFIF\0"):
            self.has_jfif = True
        elif marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
            self.adobe_transform = content[11]
        elif marker == _APP1 and content.startswith(b"Exif\0"):
            self.exif.append(content[6:])  # a block of more than 64 kB goes on in another segment

    def take_frame(self, marker: int, content: bytes) -> None:
        if self.frame is not None:
            self.refuse("it has two frame headers")
        if len(content) < 6 or len(content) != 6 + 3 * content[5]:
            raise unreadable()
        bits, self.height, self.width, components = struct.unpack_from(">BHHB", content)
        if bits != 8:
            raise unsupported(f"a JPEG file of {bits} bits a sample", _REMEDY)
        if components not in (1, 3, 4):
            raise unsupported(f"a JPEG file of {components} components", _REMEDY)
        self.frame, self.process = len(self.pieces), marker
        self.unsent = {identifier: [16] * 64 for identifier in content[6::3]}
        self.pieces.append(_segment(marker, content))

    def take_scan(self, content: bytes, end: int) -> int:
        """Return the position behind the scan's data."""
        count = content[0] if content else 0
        if self.frame is None or len(content) != 4 + 2 * count:
            self.refuse("a scan has no proper header")
        if len(self.data) == MAX_SCANS:
            raise ImageRefusedError(
                "too_many_scans",
                f"the JPEG file of {self.width}x{self.height} px has more than {MAX_SCANS:,} scans. "
                "Save it as a baseline JPEG.",
            )
        if self.process in _SEQUENTIAL:
            content = content[:-3] + b"\0\x3f\0"  # the only ones that there are
        first, last, bits = content[-3:]
        for identifier in content[1 : 1 + 2 * count : 2]:
            if identifier not in self.unsent:
                self.refuse("a scan is of no component of it")
            self.unsent[identifier][first : last + 1] = [bits & 15] * (min(last, 63) + 1 - first)
        behind = _END_OF_DATA.search(self.file, end)
        stop = len(self.file) if behind is None else behind.start()
        separator = _SEPARATORS[len(self.data) % len(_SEPARATORS)]
        self.data.append(len(self.pieces) + 1)
        self.pieces += [_segment(_SOS, content), memoryview(self.file)[end:stop], separator]
        return stop

    def finish(self) -> JpegFile:
        if self.frame is None or not self.data or not self.width or not self.height:
            raise unreadable()
        if any(any(bits) for bits in self.unsent.values()):
            self.refuse("a scan of it is missing")
        frame = bytearray(self.pieces[self.frame])
        frame[5:7] = self.height.to_bytes(2, "big")
        self.pieces[self.frame] = bytes(frame)
        marks = _START + (_JFIF if self.has_jfif else b"")
        if self.adobe_transform is not None:
            usual = 1 if len(self.unsent) < 4 else 2
            marks += _ADOBE + bytes([usual if self.adobe_transform else 0])
        scans = [index + 1 for index in self.data]
        return JpegFile(
            self.width,
            self.height,
            len(scans),
            b"".join(self.exif),
            len(self.unsent),
            [marks, *self.pieces, _END],
            scans,
        )

    def refuse(self, reason: str) -> NoReturn:
        if self.frame is None:
            raise unreadable()
        raise corrupt("JPEG", self.width, self.height, reason)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _cmyk_to_bgr(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert uint8, (height, width, 4), 255 for no ink, as all programs store it after Adobe's example."""
    bgr = np.empty((*stored.shape[:2], 3), np.uint8)
    for row in range(0, len(stored), 64):  # a strip that stays in the cache
        cyan, magenta, yellow, black = cv2.split(stored[row : row + 64])
        cv2.merge([cv2.multiply(ink, black, scale=1 / 255) for ink in (yellow, magenta, cyan)], bgr[row : row + 64])
    return bgr
