"""Films, decoded again."""

import av
import pytest
from PIL import Image
from tests.engine.results import made_result

from accentor.engine.outputs import extras
from accentor.engine.outputs.video import even, repeats, write_video
from accentor.errors import InvalidRequestError


def decoded(path):
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        frames = [frame.to_image() for frame in film.decode(stream)]
        return frames, stream, film.metadata


def far(one, other):
    """Return the mean difference of two pictures in grey levels."""
    pairs = list(zip(one.convert("RGB").tobytes(), other.convert("RGB").tobytes(), strict=True))
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def test_frames_sizes_and_durations(tmp_path):
    result = made_result()
    path = result.save_video(tmp_path / "new" / "steps.mp4", frame_ms=200, last_ms=400)
    assert path == tmp_path / "new" / "steps.mp4"
    frames, stream, metadata = decoded(path)
    assert len(frames) == 5 + 5 + 10
    assert {frame.size for frame in frames} == {(42, 34)}
    assert (stream.codec_context.name, stream.average_rate, stream.codec_context.pix_fmt) == ("h264", 25, "yuv420p")
    assert float(stream.duration * stream.time_base) == pytest.approx(0.8)
    assert metadata["title"] == "logit:ash: 1.5 → 4"
    for place, expected in ((0, 0), (4, 0), (5, 1), (9, 1), (10, 2), (19, 2)):
        assert far(frames[place].crop((0, 0, 41, 33)), result.frames[expected]) < 8
        assert far(frames[place].crop((0, 0, 41, 33)), result.frames[(expected + 1) % 3]) > 20


def test_over_a_background_each_frame_has_its_own_map(tmp_path):
    result = made_result()
    frames, _, _ = decoded(result.save_video(tmp_path / "a.MP4", frame_ms=40, last_ms=40, background="black"))
    assert len(frames) == 3
    assert frames[0].getextrema()[0][1] < 12
    for point in (1, 2):
        expected = result.overlay_on("black", opacity=result.opacity_map(point=point), point=point)
        assert far(frames[point].crop((0, 0, 41, 33)), expected) < 8
    kept_none = made_result(accumulated=())
    frames, _, _ = decoded(kept_none.save_video(tmp_path / "b.mp4", background="black"))
    assert far(frames[0].crop((0, 0, 41, 33)), kept_none.overlay_on("black", point=0)) < 8


def test_colors_are_kept_and_told(tmp_path):
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    path = write_video([Image.new("RGB", (64, 48), color) for color in colors], tmp_path / "a.mp4", 40, 40)
    frames, stream, _ = decoded(path)
    for frame, color in zip(frames, colors, strict=True):
        assert all(abs(got - wanted) <= 4 for got, wanted in zip(frame.getpixel((20, 20)), color, strict=True))
    told = stream.codec_context
    assert (told.colorspace, told.color_range, told.color_primaries, told.color_trc) == (5, 1, 1, 13)


def test_long_films_keep_time(tmp_path):
    frames = [Image.new("L", (32, 32), 3 * step) for step in range(80)]
    found, stream, _ = decoded(write_video(frames, tmp_path / "a.mp4", 40, 1_200))
    assert len(found) == 79 + 30
    assert float(stream.duration * stream.time_base) == pytest.approx(109 / 25)
    levels = [frame.getpixel((16, 16))[0] for frame in found]
    assert all(abs(level - 3 * min(step, 79)) <= 3 for step, level in enumerate(levels))


@pytest.mark.parametrize(("ms", "pictures"), [(1, 1), (40, 1), (59, 1), (61, 2), (160, 4), (1200, 30)])
def test_times_are_rounded_to_pictures(ms, pictures):
    assert repeats(ms) == pictures


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (4, 5), (5, 5)])
def test_odd_sizes_repeat_their_edge(size):
    width, height = size
    frame = Image.new("RGB", size)
    frame.putdata([(10 * x, 10 * y, 0) for y in range(height) for x in range(width)])
    padded = even(frame)
    assert padded.size == (width + width % 2, height + height % 2)
    for x in range(padded.width):
        for y in range(padded.height):
            assert padded.getpixel((x, y)) == (10 * min(x, width - 1), 10 * min(y, height - 1), 0)


def test_grey_frames(tmp_path):
    frames, _, _ = decoded(made_result(1).save_video(tmp_path / "grey.mp4"))
    assert far(frames[-1].crop((0, 0, 41, 33)), made_result(1).image) < 8


def test_wrong_requests(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"steps.gif does not end in \.mp4"):
        made_result().save_video(tmp_path / "steps.gif")
    with pytest.raises(InvalidRequestError, match="0 ms"):
        made_result().save_video(tmp_path / "steps.mp4", last_ms=0)
    assert not list(tmp_path.iterdir())


def test_without_the_library(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"a film needs av: pip install 'accentor\[video\]'"):
        made_result().save_video(tmp_path / "steps.mp4")
    with pytest.raises(ImportError, match=r"a figure needs matplotlib.figure: pip install 'accentor\[plot\]'"):
        made_result().figure()
