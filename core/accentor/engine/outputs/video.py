"""Frames as a film: H.264 in MP4, which every browser and slide program plays. Needs the extra ``video``."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from accentor.engine.outputs.extras import needed
from accentor.errors import InvalidRequestError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer

FPS = 25
BT601, LIMITED, BT709, SRGB = 5, 1, 1, 13
"""Matrix, range, primaries and transfer of the colours, as ITU-T H.273 numbers them, so that no player guesses."""
CRF = "16"
"""Quality of x264, 0 without loss to 51; 18 is held to be free of visible loss."""


def write_video(
    frames: Sequence[Image.Image],
    path: str | Path,
    frame_ms: int,
    last_ms: int,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write frames of one size as an MP4 at 25 pictures a second, each repeated for as long as it is shown.

    Odd sizes are padded to even ones with the last row and column, as the format wants them.

    Parameters
    ----------
    frames
        At least one, all of one size.
    path
        Ends in ``.mp4``; folders that are missing are made.
    frame_ms, last_ms
        Milliseconds for which a frame and the last frame are shown, rounded to 40 ms and at least that.
    metadata
        Such as a title.

    Raises
    ------
    ImportError
        If the extra ``video`` is not installed.
    InvalidRequestError
        If the name does not end in ``.mp4``, or a time is below 1 ms.
    """
    av = needed("av", "video", "a film")
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise InvalidRequestError(f"{target} does not end in .mp4: films are written as MP4")
    if frame_ms < 1 or last_ms < 1:
        raise InvalidRequestError(f"a frame is shown for {frame_ms} ms, the last for {last_ms} ms: expected 1 or more")
    target.parent.mkdir(parents=True, exist_ok=True)
    times = [repeats(frame_ms)] * (len(frames) - 1) + [repeats(last_ms)]
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata.update(metadata or {})
        _encode(av.VideoFrame.from_image, container, [even(frame) for frame in frames], times)
    return target


def repeats(shown_ms: int) -> int:
    """Return for how many pictures of 40 ms a frame is shown."""
    return max(1, round(shown_ms * FPS / 1_000))


def even(frame: Image.Image) -> Image.Image:
    """Return the frame, RGB, its last column and row doubled where the size is odd."""
    width, height = frame.size
    size = (width + width % 2, height + height % 2)
    picture = frame.convert("RGB")
    if size == frame.size:
        return picture
    padded = Image.new("RGB", size)
    for place in ((size[0] - width, size[1] - height), (0, size[1] - height), (size[0] - width, 0), (0, 0)):
        padded.paste(picture, place)
    return padded


def _encode(
    picture_of: "Callable[[Image.Image], VideoFrame]",
    container: "OutputContainer",
    frames: Sequence[Image.Image],
    times: Sequence[int],
) -> None:
    stream = container.add_stream("libx264", rate=FPS, options={"crf": CRF, "preset": "medium"})
    stream.width, stream.height = frames[0].size
    stream.pix_fmt = "yuv420p"
    colors = stream.codec_context
    colors.colorspace, colors.color_range, colors.color_primaries, colors.color_trc = BT601, LIMITED, BT709, SRGB
    shown = 0
    for frame, repeat in zip(frames, times, strict=True):
        for _ in range(repeat):
            picture = picture_of(frame)
            picture.pts, picture.time_base = shown, Fraction(1, FPS)
            container.mux(stream.encode(picture))
            shown += 1
    container.mux(stream.encode())
