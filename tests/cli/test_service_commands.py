"""The commands that talk to a service, against a running one."""

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.api.conftest import bare, running, service
from tests.api.service import CARD, Service, artefacts, digest, picture
from tests.client.worker import Worker
from tests.servers import wait_until
from typer.testing import CliRunner

from accentor.cli.main import build, main
from accentor.cli.submitting import is_lines, read_metadata
from accentor.errors import InvalidRequestError
from accentor.spec import PRESETS, Failure
from accentor.state import AccessStore, Scope, make_key

__all__ = ["bare", "running", "service"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program against the service; return exit status, standard output and standard error."""
    monkeypatch.setenv("ACCENTOR_URL", service.url)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["accentor", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    return tmp_path


def submitted(service: Service) -> Any:
    return service.jobs.recent(1)[0]


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_a_product(run: Run, service: Service, folder: Path) -> None:
    options = ("--layer", "conv1", "--range", "2:8", "--stride", 3, "--seeds", 2, "--lane", "interactive", "-m", "toy")
    more = ("--recipe", "fast", "--steps", 9, "--strength", "0,0.5,1", "--custom-id", "{feature}-{image:.8}-{seed}")
    rest = ("--metadata", "study=dogs", "--deadline", 600, "--force", "--json")
    status, out, _ = run("submit", folder, *options, *more, *rest)
    told = json.loads(out)
    assert (status, told["total"], told["lane"], told["metadata"]) == (0, 8, "interactive", {"study": "dogs"})
    assert told["deadline_at"] is not None
    spec = service.specs(told["id"])[5]
    assert (str(spec.feature), spec.image, spec.seed) == ("channel:conv1:5", digest(picture(1)), 1)
    assert (spec.recipe.steps, spec.recipe.strengths) == (9, (0.0, 0.5, 1.0))
    assert spec.custom_id == f"channel:conv1:5-{digest(picture(1))[:8]}-1"


def test_features_zipped_with_images(run: Run, service: Service, folder: Path) -> None:
    status, out, _ = run("submit", folder, "-f", "logit:0", "-f", "-logit:1", "--pairing", "zip", "-m", "toy")
    batch = submitted(service)
    assert (status, batch.total) == (0, 2)
    assert out.splitlines()[0] == f"{batch.id}  2 jobs"
    assert [str(spec.feature) for spec in service.specs(batch.id)] == ["logit:0", "-logit:1"]


def test_lines(run: Run, service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [{"feature": "logit:0", "image": "a.png"}, {"feature": "logit:1", "image": digest(picture(1)), "seed": 4}]
    path = write_lines(folder / "jobs.jsonl", *jobs)
    status, out, _ = run("submit", path, "-m", "toy", "--recipe", "fast", "--metadata", "a=b", "--json")
    told = json.loads(out)
    assert (status, told["total"], told["metadata"]) == (0, 2, {"a": "b"})
    lines = [service.http.get(f"/v1/jobs/{told['id']}-{index}").json()["spec"] for index in range(2)]
    assert [(line["image"], line["seed"], line["recipe"]["steps"]) for line in lines] == [
        (digest(picture(1)), 0, PRESETS["fast"].steps),
        (digest(picture(1)), 4, PRESETS["fast"].steps),
    ]
    data = json.dumps(jobs[1]).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    status, out, _ = run("submit", "-", "-m", "toy", "--json")
    assert (status, json.loads(out)["total"]) == (0, 1)


def test_wrong_lines_are_told(run: Run, service: Service, folder: Path) -> None:
    jobs = [{"feature": f"logit:{unit}", "image": "a.png"} for unit in (0, 7, 1)]
    path = write_lines(folder / "jobs.jsonl", *jobs)
    status, _, err = run("submit", path, "-m", "toy")
    assert status == 2
    assert "line 2: /feature unit-out-of-range" in err
    assert service.jobs.recent(1) == []
    status, out, _ = run("submit", path, "-m", "toy", "--skip-invalid")
    assert (status, submitted(service).total, submitted(service).skipped) == (0, 2, 1)
    assert "2 jobs, 1 lines left out" in out


@pytest.mark.parametrize("form", ["lines", "product"])
def test_dry_runs(run: Run, service: Service, folder: Path, form: str) -> None:
    path = write_lines(folder / "jobs.jsonl", *[{"feature": "logit:0", "image": name} for name in ("a.png", "b.png")])
    good = (path,) if form == "lines" else (folder, "-f", "logit:0")
    status, out, _ = run("submit", *good, "-m", "toy", "--dry-run")
    assert (status, out) == (0, "2 jobs of 2 images; 0 computed before\n")
    bad = write_lines(folder / "bad.jsonl", {"feature": "logit:7", "image": "a.png"})
    wrong = (bad,) if form == "lines" else (folder, "-f", "logit:7")
    status, out, err = run("submit", *wrong, "-m", "toy", "--dry-run")
    assert (status, "unit-out-of-range" in err) == (2, True)
    status, out, _ = run("submit", *wrong, "-m", "toy", "--dry-run", "--json")
    assert (status, json.loads(out)["accepted"], service.jobs.recent(1)) == (2, False, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs.jsonl", "a.png"], "alone"),
        (["jobs.jsonl", "-f", "logit:0"], "features"),
        (["a.png"], "--feature, --layer or --dictionary"),
        (["a.png", "-f", "logit:0", "--layer", "conv1"], "--feature and --layer"),
        (["a.png", "-f", "logit:0", "--range", "0:2"], "--range"),
        (["a.png", "-f", "logit:0", "--skip-invalid"], "--skip-invalid"),
        (["a.png", "-f", "logit:0", "--metadata", "x"], "NAME=TEXT"),
        (["a.png", "-f", "logit:0", "--lane", "fast"], "lane"),
    ],
)
def test_options_that_do_not_fit(run: Run, service: Service, folder: Path, arguments: list[str], said: str) -> None:
    write_lines(folder / "jobs.jsonl", {"feature": "logit:0", "image": "a.png"})
    places = [folder / text if text.endswith(("png", "jsonl")) else text for text in arguments]
    status, _, err = run("submit", *places, "-m", "toy")
    assert status == 2
    assert said in err
    assert service.jobs.recent(1) == []


def test_a_batch_from_submission_to_pictures(run: Run, service: Service, folder: Path) -> None:
    Worker(service, 0, 1, failing=frozenset({1})).start()
    status, out, _ = run("submit", folder, "-f", "logit:0", "-m", "toy", "--wait")
    batch = submitted(service)
    assert (status, batch.state) == (1, "partially_failed")
    assert f"{batch.id}  partially_failed  2 jobs of toy: 1 succeeded, 1 failed" in out
    status, out, _ = run("status", batch.id, "--json")
    assert (status, json.loads(out)["counts"]["failed"]) == (0, 1)
    status, out, err = run("fetch", batch.id, "--out", folder / "out")
    assert (status, "1 of 2 results" in out, "not-finite: NaN at step 3" in err) == (1, True, True)
    assert (folder / "out" / "000000-logit-0" / "overlay.png").read_bytes() == artefacts(0)["overlay.png"]
    status, out, _ = run("retry", batch.id, "--json")
    assert (status, json.loads(out)["counts"]["queued"]) == (0, 1)
    assert run("retry", batch.id)[0] == 2
    assert run("delete", batch.id, "--yes")[0] == 2
    service.run(batch.id, 1)
    status, out, _ = run("watch", batch.id, "--json")
    assert (status, json.loads(out.splitlines()[-1])["state"]) == (0, "succeeded")
    status, out, _ = run("fetch", batch.id, "--out", folder / "out", "--json")
    assert (status, json.loads(out)["counts"]["succeeded"]) == (0, 2)
    assert (folder / "out" / "000001-logit-0" / "overlay.png").read_bytes() == artefacts(1)["overlay.png"]
    status, out, _ = run("delete", batch.id, "--yes")
    assert (status, out.strip()) == (0, f"{batch.id}  deleted")
    assert run("status", batch.id)[0] == 2


def test_retrying_and_waiting(run: Run, service: Service, folder: Path) -> None:
    run("submit", folder / "a.png", "-f", "logit:0", "-m", "toy")
    batch = submitted(service)
    service.fail(batch.id, 0, Failure(code="not-finite", detail="NaN"))
    timer = threading.Timer(0.6, service.run, (batch.id, 0))
    timer.start()
    status, out, _ = run("retry", batch.id, "--wait", "--json")
    timer.join()
    assert (status, json.loads(out)["state"]) == (0, "succeeded")


def test_canceling(run: Run, service: Service, folder: Path) -> None:
    run("submit", folder, "-f", "logit:0", "-m", "toy")
    status, out, _ = run("cancel", submitted(service).id, "--json")
    assert (status, json.loads(out)["state"]) == (0, "canceled")


def test_deleting_asks_first(run: Run, service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("submit", folder / "a.png", "-f", "logit:0", "-m", "toy")
    batch = submitted(service)
    service.run(batch.id, 0)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, _, err = run("delete", batch.id)
    assert (status, f"Delete batch {batch.id} of 1 jobs (its results stay)?" in err) == (1, True)
    assert submitted(service).id == batch.id
    assert list(service.objects.keys("results/"))
    assert run("submit", folder / "a.png", "-f", "logit:0", "-m", "toy", "--json")[1].count('"cached": 1') == 1
    assert (
        run("submit", folder / "a.png", "-f", "logit:0", "-m", "toy", "--json", "--force")[1].count('"cached": 0') == 1
    )
    forced = submitted(service)
    service.run(forced.id, 0)
    for other in list(service.jobs.recent(2)):
        assert run("delete", other.id, "--yes")[0] == 0
    assert list(service.objects.keys("results/"))
    assert run("delete", batch.id, "--results", "--json")[:2] == (0, f'{{"batch": "{batch.id}", "deleted": true}}\n')
    assert service.jobs.recent(1) == []
    wait_until(lambda: not list(service.objects.keys("results/")), what="the results to go")


def test_models_and_layers_of_a_service(run: Run) -> None:
    assert run("models")[:2] == (0, "toy\n")
    status, out, _ = run("layers", "toy", "--json")
    assert (status, [layer["name"] for layer in json.loads(out)]) == (0, [layer.name for layer in CARD.layers])
    assert run("layers", "nowhere")[0] == 2
    assert run("layers", "toy", "--weights", "x.safetensors")[0] == 2


def test_a_key_is_sent(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    key, token = make_key("tests", [Scope.READ])
    AccessStore(service.redis).add(key)
    for command in (["models"], ["layers", "toy"], ["status"]):
        assert run(*command, "--api-key", token)[0] == 0
        status, _, err = run(*command, "--api-key", "wrong")
        assert (status, "unauthorized" in err) == (2, True)
    monkeypatch.setenv("ACCENTOR_API_KEY", "wrong")
    assert run("status")[0] == 2


def test_what_is_a_file_of_lines() -> None:
    assert [is_lines([Path(name)]) for name in ("a.jsonl", "B.NDJSON", "c.jsonl.gz", "-")] == [True] * 4
    assert not is_lines([Path("a.png"), Path("folder"), Path("jsonl")])
    assert read_metadata(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    assert read_metadata([]) is None
    with pytest.raises(InvalidRequestError, match="NAME=TEXT"):
        read_metadata(["=b"])


def test_help_tells_exit_statuses() -> None:
    text = " ".join(CliRunner().invoke(build(), ["--help"]).output.split())
    assert "Exit status: 0 all went well; 1 a job failed; 2 the request was wrong; 3 the service" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    words = {"_ACCENTOR_COMPLETE": f"complete_{shell}", "COMP_WORDS": "accentor re", "COMP_CWORD": "1"}
    words |= {"_TYPER_COMPLETE_ARGS": "accentor re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = CliRunner().invoke(build(), [], env=words, prog_name="accentor")
    assert "retry" in result.output
    assert "submit" not in result.output
