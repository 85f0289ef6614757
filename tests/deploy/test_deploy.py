"""The compose files, the images and their health checks, as far as that goes without a Docker engine."""

import http.server
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from billiard.spawn import get_command_line
from typer.testing import CliRunner

from accentor.cli.main import build
from accentor.embedded.service import COMPUTING
from accentor.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
GPU = DEPLOY / "compose.gpu.yaml"
EXAMPLE = DEPLOY / ".env.example"
OURS = {"api": "api", "worker": "worker"}
"""Our services, each with the extra that its image installs."""

VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
PINNED = re.compile(r"^[\w./-]+:v?\d[\w.-]*$")
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN|AUTH")
START_LIMIT_S = 20.0


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def services(path: Path) -> dict[str, Any]:
    return load(path)["services"]


def dockerfile(name: str) -> str:
    return (DEPLOY / f"{name}.Dockerfile").read_text(encoding="utf-8")


def settings_named(text: str) -> set[str]:
    return set(re.findall(r"\bACCENTOR_[A-Z0-9_]+\b", text))


def example() -> dict[str, str]:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_parts_are_there():
    assert set(services(COMPOSE)) == {"redis", "s3", "api", "worker"}
    assert set(services(GPU)) == {"worker"}


@pytest.mark.parametrize("path", [COMPOSE, GPU, EXAMPLE, DEPLOY / "README.md", *DEPLOY.glob("*.Dockerfile")], ids=str)
def test_every_setting_that_is_named_exists(path: Path):
    known = {f"ACCENTOR_{name.upper()}" for name in Settings.model_fields}
    assert settings_named(path.read_text(encoding="utf-8")) <= known


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_settings_given_are_valid(name: str, monkeypatch: pytest.MonkeyPatch):
    for variable, value in services(COMPOSE)[name]["environment"].items():
        if value is not None:
            filled = VARIABLE.sub(lambda found: found[3] if found[2] == "-" else "filled", value)
            monkeypatch.setenv(variable, filled)
    settings = Settings()
    assert settings.storage_url.startswith("s3://")
    assert settings.s3_endpoint == "http://s3:8333"
    assert settings.s3_public_endpoint == "http://127.0.0.1:8333"
    assert settings.redis_url.get_secret_value() == "redis://:filled@redis:6379/0"


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=str)
def test_ports_are_bound_to_this_machine(path: Path):
    ports = [port for service in services(path).values() for port in service.get("ports", [])]
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_redis_is_reached_from_inside_alone():
    assert "ports" not in services(COMPOSE)["redis"]


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=str)
def test_images_are_pinned(path: Path):
    for service in services(path).values():
        assert PINNED.match(service["image"]), service["image"]


@pytest.mark.parametrize("name", OURS)
def test_base_images_are_pinned(name: str):
    bases = re.findall(r"^FROM (\S+)", dockerfile(name), re.MULTILINE)
    assert len(bases) == 2
    assert all(PINNED.match(base) for base in bases)


@pytest.mark.parametrize(("path", "name"), [(COMPOSE, "api"), (COMPOSE, "worker"), (GPU, "worker")])
def test_our_images_carry_our_version(path: Path, name: str, project: dict[str, Any]):
    assert services(path)[name]["image"].rpartition(":")[2] == project["version"]


def test_no_secret_is_written_down():
    for service in services(COMPOSE).values():
        for name, value in service["environment"].items():
            if SECRET.search(name):
                assert VARIABLE.fullmatch(value)
    for name, kind, rest in VARIABLE.findall(COMPOSE.read_text(encoding="utf-8")):
        if SECRET.search(name):
            assert (kind, "deploy/.env.example" in rest) == ("?", True), f"{name} needs :? and how to set it"


def test_the_example_names_every_variable_and_gives_no_secret():
    text = EXAMPLE.read_text(encoding="utf-8")
    variables = VARIABLE.findall(COMPOSE.read_text(encoding="utf-8") + GPU.read_text(encoding="utf-8"))
    needed = {name for name, kind, _ in variables if kind == "?"}
    assert example() == dict.fromkeys(needed, "")
    for name, kind, default in variables:
        if kind == "-":
            assert f"# {name}={default}\n" in text


def test_redis_keeps_its_data_and_evicts_nothing():
    redis = services(COMPOSE)["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--requirepass"].startswith("${REDIS_PASSWORD")
    assert redis["volumes"] == ["redis-data:/data"]


def test_named_volumes_exist():
    mounted = {mount.split(":")[0] for service in services(COMPOSE).values() for mount in service.get("volumes", [])}
    assert mounted == set(load(COMPOSE)["volumes"])


def test_everything_is_restarted_and_has_time_to_stop():
    for service in services(COMPOSE).values():
        assert service["restart"] == "unless-stopped"
        assert "stop_grace_period" in service


def test_our_services_wait_for_what_they_need():
    compose = services(COMPOSE)
    for name in OURS:
        assert compose[name]["depends_on"] == {
            "redis": {"condition": "service_healthy"},
            "s3": {"condition": "service_healthy"},
        }
        assert compose[name]["build"] == {"context": ".", "dockerfile": f"deploy/{name}.Dockerfile"}
    for name in ("redis", "s3"):
        assert compose[name]["healthcheck"]["test"][0].startswith("CMD")


def test_the_override_gives_the_worker_a_gpu():
    worker = services(GPU)["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert worker["environment"] == {"ACCENTOR_DEVICE": "cuda"}
    assert worker["build"]["args"] == {"TORCH_INDEX": ""}
    assert "ARG TORCH_INDEX=" in dockerfile("worker")


@pytest.mark.parametrize("name", OURS)
def test_the_image_starts_a_command_that_exists(name: str):
    (command,) = re.findall(r"^CMD (\[.*\])$", dockerfile(name), re.MULTILINE)
    program, subcommand = yaml.safe_load(command)
    assert program == "accentor"
    assert CliRunner().invoke(build(), [subcommand, "--help"]).exit_code == 0
    assert CliRunner().invoke(build(), ["no-such-command", "--help"]).exit_code != 0


@pytest.mark.parametrize(("name", "extra"), OURS.items())
def test_the_image_installs_an_extra_that_exists(name: str, extra: str, project: dict[str, Any]):
    assert re.findall(r'pip install "\.\[(\w+)\]"', dockerfile(name)) == [extra]
    assert extra in project["optional-dependencies"]


def test_the_api_image_has_no_torch(project: dict[str, Any]):
    code = [line for line in dockerfile("api").splitlines() if not line.startswith("#")]
    assert not any("torch" in line for line in code)
    extras = project["optional-dependencies"]
    assert not any("torch" in requirement or "engine" in requirement for requirement in extras["api"] + extras["state"])


def test_the_worker_image_asks_for_the_same_torch_as_the_package(project: dict[str, Any]):
    wanted = [one for one in project["optional-dependencies"]["engine"] if one.startswith("torch")]
    assert re.findall(r'"(torch[^"]*)"', dockerfile("worker")) == wanted


@pytest.mark.parametrize("name", OURS)
def test_the_image_runs_as_nobody_special_and_stops_on_sigterm(name: str):
    last = dockerfile(name).split("\nFROM ")[-1]
    (user,) = re.findall(r"^USER (\d+)$", last, re.MULTILINE)
    assert f"useradd --uid {user} " in last
    assert int(user) > 0
    assert "\nSTOPSIGNAL SIGTERM\n" in last


def test_the_worker_image_has_the_allocator_of_the_embedded_mode():
    assert dict(re.findall(r"((?:MALLOC|OMP)_\w+)=(\S+)", dockerfile("worker"))) == COMPUTING


@pytest.mark.parametrize("name", OURS)
def test_the_health_check_is_in_the_image(name: str):
    text = dockerfile(name)
    (command,) = re.findall(r"HEALTHCHECK .*CMD (\[.*\])$", text, re.MULTILINE)
    script = Path(yaml.safe_load(command)[1])
    assert f"COPY deploy/{script.name} {script.parent}/\n" in text
    assert (DEPLOY / script.name).is_file()
    assert "!deploy/*_health.py" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_the_images_get_what_the_build_needs_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "core", "api", "worker", "client", "deploy"} | {
        "deploy/*_health.py"
    }


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server uses
        pass


@contextmanager
def answering(status: int) -> Iterator[int]:
    handler = type("Answer", (_Answer,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def health(name: str, **environment: str) -> int:
    command = [sys.executable, str(DEPLOY / f"{name}_health.py")]
    return subprocess.run(command, env=environment, capture_output=True, timeout=START_LIMIT_S, check=False).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_api_is_healthy_if_it_answers(status: int, healthy: bool):
    with answering(status) as port:
        assert (health("api", ACCENTOR_PORT=str(port)) == 0) is healthy
    assert health("api", ACCENTOR_PORT=str(port)) != 0


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux' /proc")
def test_the_worker_is_healthy_if_celerys_child_is_there():
    child = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)", *get_command_line()[1:]]
    with subprocess.Popen(child, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert health("worker") == 0
        finally:
            process.kill()
