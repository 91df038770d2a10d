"""Turns decoded frames into what a viewer sees: upright RGB pictures with square pixels.

Importing this module needs PyAV and Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorTrc
from PIL import Image

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

_LARGEST_PIXEL_ASPECT: Final = 4
"""Width by height, or the other way round. Nothing that is shown has more; a damaged header may say anything."""
_HDR: Final = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
"""Curves of high dynamic range: PQ and HLG."""
_MATRIX_BYTES: Final = 36


class PictureConverter:
    """Converts the frames of one stream. What a frame says of itself counts, so that all of it may change midway.

    Pixels are made square by changing the width. Of interlaced frames one field is shown, its lines interpolated: that
    needs no other frame. High dynamic range is mapped to the usual one. What is transparent is put on white.
    """

    def __init__(self, stream: VideoStream) -> None:
        """Start before the first frame.

        Args:
            stream: Where the frames come from. It may be closed before the last of them is converted.
        """
        # A container's aspect overrides that of its frames, as in FFmpeg. Where they agree, it is left to the frames,
        # whose aspect may change midway.
        stated, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        self._stated_aspect = stated if stated and stated != coded else None
        self._graph: Graph | None = None
        self._layout: tuple[Any, ...] | None = None
        self._rotation: int | None = None
        self._matrix: NDArray[np.int32] | None = None

    def convert(self, frame: VideoFrame) -> Image.Image:
        """Convert one frame.

        Args:
            frame: As decoded: any size, pixel format, colour space, aspect and orientation.

        Returns:
            RGB, upright.

        Raises:
            av.FFmpegError: The frame is in a format that FFmpeg does not convert.
        """
        transparent = any(component.is_alpha for component in frame.format.components)
        layout = (
            *(frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, frame.color_trc),
            frame.interlaced_frame,
        )
        if self._graph is None or layout != self._layout:
            self._graph, self._layout = self._build(frame, "rgba" if transparent else "rgb24"), layout
        # PyAV ties a frame to its side data in a circle, and so keeps both: it is asked for when it may be another.
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        self._graph.vpush(frame)
        pixels: NDArray[np.uint8] = np.asarray(self._graph.vpull().to_ndarray(), np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(_upright(pixels, self._matrix)))
        if not transparent:
            return picture
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")

    def _build(self, frame: VideoFrame, pixel_format: str) -> Graph:
        """Make the filters for frames like this one."""
        graph = Graph()
        graph.threads = 1
        time_base = frame.time_base or Fraction(1, 1000)
        nodes = [graph.add_buffer(None, frame.width, frame.height, frame.format, time_base=time_base)]
        if frame.interlaced_frame:
            nodes.append(graph.add("field", "top"))
        scale = f"w='{_width(self._stated_aspect)}':h={frame.height}:eval=frame"
        if frame.color_trc in _HDR:
            scale += ":out_primaries=bt709:out_transfer=bt709"
        nodes += [graph.add("scale", scale), graph.add("format", pixel_format), graph.add("buffersink")]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


def _width(stated_aspect: Fraction | None) -> str:
    """Express the width of a frame whose pixels are square, for FFmpeg's `scale`; `sar` is what the frame says."""
    aspect = "sar" if stated_aspect is None else f"{float(stated_aspect):.6f}"
    most = _LARGEST_PIXEL_ASPECT
    return f"max(1,round(iw*if(between({aspect},{1 / most},{most}),{aspect},1)))"


def _display_matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """Return how the frame is to be turned and mirrored: (3, 3), or None where it stands as it is to be shown."""
    side_data: Mapping[Any, Any] = frame.side_data  # Its type names motion vectors only.
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None or len(bytes(matrix)) != _MATRIX_BYTES:
        return None
    return np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)


def _upright(pixels: NDArray[np.uint8], matrix: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Turn and mirror a picture by quarters of a turn, whichever is nearest to what the matrix says.

    Args:
        pixels: (height, width, channels).
        matrix: Rows a b u, c d v, x y w, by which a point (p, q) goes to (a p + c q, b p + d q).
            Source: ISO/IEC 14496-12, matrix of the track header.
    """
    if matrix is None:
        return pixels
    (a, b), (c, d) = matrix[0, :2].tolist(), matrix[1, :2].tolist()
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
