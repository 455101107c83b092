"""The deployment files say what the service understands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from valuerec.cli import app
from valuerec.serving.inference import router

DEPLOY = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def container(name: str) -> dict[str, Any]:
    found = {
        "kubernetes.yaml": lambda all: all["Deployment"]["spec"]["template"]["spec"]["containers"][0],
        "kserve.yaml": lambda all: all["ClusterServingRuntime"]["spec"]["containers"][0],
    }
    result: dict[str, Any] = found[name]({document["kind"]: document for document in documents(name)})
    return result


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kserve.yaml"])
def test_its_arguments_are_options_and_its_probes_are_routes(name: str) -> None:
    one = container(name)
    _, bound, _ = app.parse_args(["serve", *one["args"]], exit_on_error=False, print_error=False)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert bound.arguments["port"] in ports.values() and bound.arguments["processes"] == 1
    routes = {route.path for route in router.routes}  # type: ignore[attr-defined]
    probes = {kind: probe["httpGet"] for kind, probe in one.items() if kind.endswith("Probe")}
    assert probes["readinessProbe"]["path"] == "/v2/health/ready" and "livenessProbe" in probes
    for probe in probes.values():
        assert probe["path"] in routes and ports.get(probe["port"], probe["port"]) == bound.arguments["port"]


def test_a_pod_may_take_as_long_to_end_as_the_service_does() -> None:
    spec = {document["kind"]: document for document in documents("kubernetes.yaml")}["Deployment"]["spec"]
    options = dict(option.removeprefix("--").split("=") for option in container("kubernetes.yaml")["args"][1:])
    most = float(options["drain-delay"]) + float(options["drain-timeout"])
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > most
    probe = container("kubernetes.yaml")["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(
        options["drain-delay"]
    )  # seen before the door closes


def test_kubernetes_finds_the_pods_and_the_autoscaler_the_deployment() -> None:
    kinds = {document["kind"]: document for document in documents("kubernetes.yaml")}
    assert set(kinds) == {"Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"] == labels == kinds["Deployment"]["spec"]["selector"]["matchLabels"]
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == kinds["Deployment"]["metadata"]["name"]
    volumes = {volume["name"] for volume in kinds["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container("kubernetes.yaml")["volumeMounts"]} == volumes


def test_each_document_is_as_kubernetes_own_schema_says() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="without the extra deploy no schema is looked at")
    kinds = documents("kubernetes.yaml")
    for document in kinds:
        validate.validate(document, "1.31", strict=True)
    kinds[0]["spec"]["no such field"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(kinds[0], "1.31", strict=True)


def test_the_images_command_is_one_of_ours() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    entry, command = (re.search(rf"^{word} (\[.*\])$", text, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    assert entry and command
    line = [*yaml.safe_load(entry[1]), *yaml.safe_load(command[1])]
    assert line[0] == "valuerec"
    app.parse_args(line[1:], exit_on_error=False, print_error=False)
    for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        assert all((DEPLOY.parent / name).exists() for name in copied.split())


def test_the_image_has_the_kernels_and_its_health_is_looked_at() -> None:
    build, image = re.split(r"^FROM .*$", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE)[1:]
    installed, compiled = build.index(".[serve]"), build.index("python -m valuerec.ops.native")
    assert build.index("g++") < installed < compiled  # the package that was installed gets them
    assert "libgomp1" in image and "COPY --from=build /opt/valuerec /opt/valuerec" in image
    assert "HEALTHCHECK" in image and "podman build --format docker" in (DEPLOY / "Containerfile").read_text()
