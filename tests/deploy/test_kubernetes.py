"""The manifests for Kubernetes and the dashboard, against the code, as far as that goes without a cluster."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from accentor.settings import Settings
from accentor.state import Measures, Work
from accentor.state.measures import Ended
from accentor_api.app import create_app
from accentor_api.backlog import Load
from accentor_api.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "kubernetes"
DASHBOARD = DEPLOY / "grafana" / "accentor.json"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def manifests() -> list[dict[str, Any]]:
    files = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [found for path in files for found in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] in kinds]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]


def containers() -> Iterator[dict[str, Any]]:
    for manifest in of_kind("Deployment", "StatefulSet"):
        yield from pod(manifest)["containers"]


def settings() -> set[str]:
    return {f"ACCENTOR_{name.upper()}" for name in Settings.model_fields}


def test_kustomize_names_all_that_is_not_optional() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    there = {path.name for path in FOLDER.glob("*.yaml")}
    assert there - set(listed) == {"kustomization.yaml", "autoscaling.yaml"}


def test_selectors_find_their_pods() -> None:
    labels = [manifest["spec"]["template"]["metadata"]["labels"] for manifest in of_kind("Deployment", "StatefulSet")]
    selectors = [manifest["spec"]["selector"] for manifest in of_kind("Service")]
    assert [manifest["spec"]["selector"]["matchLabels"] for manifest in of_kind("Deployment", "StatefulSet")] == labels
    assert len(selectors) == 2
    assert all(selector in labels for selector in selectors)


def test_every_setting_is_known() -> None:
    (shared,) = of_kind("ConfigMap")
    named = {variable["name"] for container in containers() for variable in container.get("env", ())}
    named |= set(shared["data"]) | set(re.findall(r"from-literal=(\w+)", README))
    assert {name for name in named if name.startswith("ACCENTOR_")} <= settings()
    assert not any(re.search("PASSWORD|SECRET|ACCESS_KEY", name) for name in shared["data"])


def test_the_shared_settings_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    (shared,) = of_kind("ConfigMap")
    for name, value in shared["data"].items():
        monkeypatch.setenv(name, value)
    found = Settings()
    assert (found.log_format, list(found.models)) == ("json", ["reference"])
    assert found.allowed_hosts[-1] in {manifest["metadata"]["name"] for manifest in of_kind("Service")}


def test_secrets_that_are_read_are_made() -> None:
    made = set(re.findall(r"from-literal=(\w+)", README))
    read = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for container in containers()
        for variable in container.get("env", ())
        if "valueFrom" in variable
    }
    assert read == {"REDIS_PASSWORD"}
    assert read <= made


def test_probes_lead_somewhere() -> None:
    (api,) = (container for container in containers() if container["name"] == "api")
    app = create_app(Settings(signing_secret="s"))
    paths = {route.path for route in app.routes if hasattr(route, "path")} | set(app.openapi()["paths"])
    for probe in (api["readinessProbe"], api["livenessProbe"]):
        assert probe["httpGet"]["path"] in paths
        assert probe["httpGet"]["port"] in {port["name"] for port in api["ports"]}
    assert api["ports"][0]["containerPort"] == Settings().port
    (worker,) = (container for container in containers() if container["name"] == "worker")
    command = worker["livenessProbe"]["exec"]["command"]
    assert f"COPY deploy/{Path(command[1]).name} {Path(command[1]).parent}/" in (
        DEPLOY / "worker.Dockerfile"
    ).read_text(encoding="utf-8")


def test_no_container_may_more_than_it_must() -> None:
    for manifest in of_kind("Deployment", "StatefulSet"):
        assert pod(manifest)["securityContext"]["runAsNonRoot"] is True
    for container in containers():
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"]
        assert re.fullmatch(r"[\w/-]+:\d[\w.-]*", container["image"])


def test_redis_keeps_what_it_has() -> None:
    (redis,) = (container for container in containers() if container["name"] == "redis")
    arguments = dict(zip(redis["args"][1::2], redis["args"][2::2], strict=True))
    assert (arguments["--appendonly"], arguments["--maxmemory-policy"]) == ("yes", "noeviction")


def told() -> set[str]:
    """Return the names of all samples that an API tells."""
    measures = Measures(
        ended=[Ended("bulk", "m", "succeeded", 1), Ended("bulk", "m", "unexpected", 1)],
        work={"m": Work(1, 1.0, 1)},
        workers={"m": 1},
        memory={"w": {"total": 1}},
        webhooks={"delivered": 1, "dropped": 1},
    )
    metrics = Metrics(lambda: [Load("bulk", "m", 1, 1)], lambda: measures)
    metrics.count({"type": "http", "method": "GET"}, 200, 0.1)
    families = text_string_to_metric_families(metrics.render().decode())
    return {sample.name for family in families for sample in family.samples}


def queries() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    (scaled,) = of_kind("ScaledObject")
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*targets, *(trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"])]


def test_every_metric_that_is_asked_for_is_told() -> None:
    named = {name for query in queries() for name in re.findall(r"accentor_\w+", query)}
    assert len(named) > 10
    assert named - told() == set()
    guide = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    for block in re.findall(r"```promql\n(.*?)```", guide, re.DOTALL):
        assert set(re.findall(r"accentor_\w+", block)) - told() == set()


def test_no_panel_lies_on_another() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
