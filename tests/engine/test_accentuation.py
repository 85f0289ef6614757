"""The result: pictures, files, and what is stored of it."""

import io

import pytest
import torch
from PIL import Image
from tests.engine.results import made_result

from accentor.engine import accentuate
from accentor.engine.accentuation import ARTEFACTS, LAST_FRAME_MS
from accentor.engine.opacity import opacity_of
from accentor.engine.outputs.pictures import to_picture
from accentor.errors import InvalidRequestError
from accentor.spec import ENGINE_VERSION, JobSpec, Recipe, Result

RECIPE = Recipe(steps=4, crops=2, size=40, snapshots=2)


@pytest.fixture
def result(tiny):
    small = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(small, (32, 40), mode="bilinear")[0]
    return accentuate(tiny, image, "logit:ash", RECIPE, seed=3)


def test_pictures(result):
    assert (result.image.mode, result.image.size) == ("RGB", (40, 32))
    assert (result.opacity_image.mode, result.opacity_image.size) == ("L", (40, 32))
    assert (result.overlay.mode, result.overlay.size) == ("RGBA", (40, 32))
    for x, y in ((0, 0), (39, 0), (3, 31), (20, 11)):
        color = tuple((result.pixels[:, y, x] * 255).round().int().tolist())
        assert result.image.getpixel((x, y)) == color
        assert result.overlay.getpixel((x, y)) == (*color, result.opacity_image.getpixel((x, y)))
        assert result.opacity_image.getpixel((x, y)) == round(result.opacity[y, x].item() * 255)


def test_frames_go_from_the_seed_to_the_result(result):
    assert len(result.frames) == len(result.trajectory) == 3
    assert result.frames[0].tobytes() == to_picture(result.source).tobytes()
    assert result.frames[-1].tobytes() == result.image.tobytes()
    assert result.frames[1].tobytes() not in {result.frames[0].tobytes(), result.frames[2].tobytes()}


def test_files_decode(result):
    files = result.files()
    assert tuple(files) == ARTEFACTS == ("accentuated.png", "opacity.png", "overlay.png", "frames.webp")
    opened = {name: Image.open(io.BytesIO(data)) for name, data in files.items()}
    assert opened["accentuated.png"].tobytes() == result.image.tobytes()
    assert opened["opacity.png"].tobytes() == result.opacity_image.tobytes()
    assert opened["overlay.png"].tobytes() == result.overlay.tobytes()
    animation = opened["frames.webp"]
    assert (animation.format, animation.size, animation.n_frames) == ("WEBP", (40, 32), 3)
    animation.seek(2)
    animation.load()
    assert animation.info["duration"] == LAST_FRAME_MS


def test_save(result, tmp_path):
    folder = tmp_path / "a" / "b"
    paths = result.save(folder, stem="dog-")
    assert [path.name for path in paths] == [f"dog-{name}" for name in ARTEFACTS]
    assert all(path.parent == folder for path in paths)
    assert [path.read_bytes() for path in paths] == list(result.files().values())
    assert (result.save(tmp_path)[0]).name == "accentuated.png"


def test_to_result(result, tiny):
    spec = JobSpec(model="tiny", feature="logit:ash", image="0" * 64, seed=3, recipe=RECIPE, custom_id="mine")
    key = spec.key(tiny.card)
    stored = result.to_result(spec, key)
    again = Result.model_validate_json(stored.model_dump_json())
    assert again == stored
    assert (again.key, again.spec, again.artefacts) == (key, spec, ARTEFACTS)
    assert (again.width, again.height) == (40, 32)
    assert (again.before, again.after) == (result.before, result.after)
    assert again.trajectory == result.trajectory
    assert (again.model_digest, again.engine_version, again.device) == (tiny.card.digest, ENGINE_VERSION, "cpu")
    assert again.seconds == result.seconds > 0
    assert again.created_at.tzinfo is not None


def test_a_sweep_is_a_file_and_numbers(tiny):
    plain, swept = made_result(), made_result(swept=True, precision="bfloat16", stopped_at=3)
    assert (plain.artefacts, plain.sweep_images, plain.sweep_entries) == (ARTEFACTS, [], ())
    assert swept.artefacts == tuple(swept.files()) == (*ARTEFACTS, "sweep.webp")
    spec = JobSpec(model="tiny", feature="logit:ash", image="0" * 64)
    stored = Result.model_validate_json(swept.to_result(spec, "a" * 64).model_dump_json())
    assert [(point.strength, point.step, point.value, point.distance) for point in stored.sweep] == [
        (-0.5, 2, 0.5, 0.6), (0.0, 0, 1.5, 0.0), (1.0, 4, 4.0, 0.75),
    ]  # fmt: skip
    assert (stored.artefacts, stored.precision, stored.stopped_at) == (swept.artefacts, "bfloat16", 3)
    older = stored.model_dump(mode="json", exclude={"sweep", "precision", "stopped_at"})
    assert Result.model_validate(older).sweep == ()


def test_the_sweep_s_frames_are_its_images():
    swept = made_result(swept=True)
    assert swept.sweep_images[1].tobytes() == swept.seed_image.tobytes()
    assert swept.sweep_images[2].tobytes() == swept.image.tobytes()
    with Image.open(io.BytesIO(swept.files()["sweep.webp"])) as animation:
        assert (animation.n_frames, animation.size) == (3, swept.image.size)
        for place, picture in enumerate(swept.sweep_images):
            animation.seek(place)
            pairs = zip(animation.convert("RGB").tobytes(), picture.tobytes(), strict=True)
            assert sum(abs(one - other) for one, other in pairs) / len(picture.tobytes()) < 6


def test_opacity_map_is_made_anew_of_what_was_kept(result):
    torch.testing.assert_close(result.opacity_map(), result.opacity)
    other = result.opacity_map(percentile=50.0, blur=0.0)
    expected = opacity_of(result.accumulated[-1][None], 50.0, 0.0)[0]
    torch.testing.assert_close(other, expected)
    assert other.mean() > result.opacity_map(percentile=95.0, blur=0.0).mean()


def test_opacity_map_of_a_point_of_the_trajectory():
    result = made_result()
    assert not result.opacity_map(point=0).any()
    raw = result.accumulated[1] / torch.quantile(result.accumulated[1].flatten(), 0.95)
    torch.testing.assert_close(result.opacity_map(95.0, 0.0, point=1), raw.clamp(max=1.0))
    half = made_result(accumulated=tuple(one.half() for one in result.accumulated))
    torch.testing.assert_close(half.opacity_map(), result.opacity_map(), atol=2e-3, rtol=0.0)
    with pytest.raises(InvalidRequestError, match="no point 3: the trajectory has 3"):
        result.opacity_map(point=3)
    with pytest.raises(InvalidRequestError, match="keeps no accumulated gradient"):
        made_result(accumulated=()).opacity_map()


def test_results_compare_by_identity(result, tiny):
    other = accentuate(tiny, result.source, "logit:ash", RECIPE, seed=3)
    assert result == result  # noqa: PLR0124
    assert result != other
    assert len({result, other}) == 2


def test_in_a_notebook(result):
    assert Image.open(io.BytesIO(result._repr_png_())).tobytes() == result.image.tobytes()
