"""The files of deploy/ fit the command line, the service's paths, and each other."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml

from detrojan.cli.serve import TOKEN, UPSTREAM_TOKEN, command
from detrojan.console.state import State
from detrojan.serve.routes import _routes
from prose import ROOT

DEPLOY = ROOT / "deploy"
IMAGE = "detrojan"
PATHS = {path for path, _, method in _routes() if method == "GET"}


def instructions(name="Dockerfile"):
    """Return the instructions of a Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def last(found, name):
    return [rest for instruction, rest in found if instruction == name][-1]


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def parsed(words):
    """Return what the command line makes of a container's words; wrong ones are an error."""
    verb, *rest = words
    assert verb == "serve"
    # KServe puts the name in
    rest = ["signs" if word == "{{.Name}}" else word for word in rest]
    return command.make_context("serve", rest, obj=State()).params


def containers():
    """Return each container of the manifests with its pod's specification."""
    found = {}
    for name in ("kubernetes/guard.yaml", "kubernetes/kserve.yaml"):
        for one in documents(name):
            pod = one["spec"].get("template", one)["spec"]
            found |= {f"{name}: {inside['name']}": (inside, pod) for inside in pod.get("containers", [])}
    return found


def check_environment(names):
    known = {f"DETROJAN_SERVE_{parameter.name.upper()}" for parameter in command.params}
    assert set(names) <= known | {TOKEN, UPSTREAM_TOKEN}


def test_the_image_starts_a_service_as_nobody_special():
    found = instructions()
    assert last(found, "ENTRYPOINT") == '["detrojan"]'
    settings = parsed(json.loads(last(found, "CMD")))
    assert (settings["host"], str(settings["port"])) == ("0.0.0.0", last(found, "EXPOSE"))
    assert all(int(number) >= 10_000 for number in last(found, "USER").split(":"))
    assert all("slim" in rest for instruction, rest in found if instruction == "FROM")
    check = re.search(r"http://127\.0\.0\.1:(\d+)(/[^']*)'", last(found, "HEALTHCHECK"))
    assert int(check[1]) == settings["port"]
    assert check[2] in PATHS
    code = json.loads(re.search(r"CMD (\[.*\])", last(found, "HEALTHCHECK"))[1])[2]
    compile(code, "HEALTHCHECK", "exec")


def test_the_image_is_built_of_what_there_is():
    found = instructions()
    extras = next(rest for instruction, rest in found if instruction == "ARG" and rest.startswith("EXTRAS"))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"serve", "endpoint"} <= set(extras.partition("=")[2].strip('"').split(",")) <= set(known)
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    for instruction, rest in found:
        if instruction == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in sent


@pytest.mark.parametrize("name", list(containers()))
def test_containers_fit_the_command_line_and_the_services_paths(name):
    inside, pod = containers()[name]
    assert inside["image"] == IMAGE
    settings = parsed(inside["args"])
    (port,) = inside["ports"]
    assert (settings["host"], settings["port"]) == ("0.0.0.0", port["containerPort"])
    for kind, probe in inside.items():
        if kind.endswith("Probe"):
            assert probe["httpGet"]["path"] in PATHS
            assert probe["httpGet"]["port"] in {port["name"], port["containerPort"]}
    check_environment(entry["name"] for entry in inside.get("env", []))
    if "terminationGracePeriodSeconds" in pod:
        assert pod["terminationGracePeriodSeconds"] > settings["grace"] + settings["drain"]
    secured = inside["securityContext"]
    assert secured["readOnlyRootFilesystem"]
    assert not secured["allowPrivilegeEscalation"]
    mounts = {mount["mountPath"]: mount["name"] for mount in inside["volumeMounts"]}
    assert "/tmp" in mounts
    assert set(mounts.values()) <= {volume["name"] for volume in pod["volumes"]}
    given = str(settings["guard"])
    assert given in mounts or given == "/mnt/models", "KServe mounts what storageUri names"


def test_the_manifests_name_each_other():
    deployment, service = documents("kubernetes/guard.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    ports = {
        port["name"] for one in deployment["spec"]["template"]["spec"]["containers"] for port in one["ports"]
    }
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    runtime, *services = documents("kubernetes/kserve.yaml")
    formats = {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    for one in services:
        model = one["spec"]["predictor"]["model"]
        assert model["runtime"] == runtime["metadata"]["name"]
        assert model["modelFormat"]["name"] in formats
        assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
        check_environment(entry["name"] for entry in model.get("env", []))


def test_compose_runs_the_image():
    (compose,) = documents("compose.yaml")
    (service,) = compose["services"].values()
    assert service["image"] == IMAGE
    assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    settings = parsed(json.loads(last(instructions(), "CMD")))
    assert service["ports"][0].rpartition(":")[2] == str(settings["port"])
    assert service["volumes"][0].split(":")[1] == str(settings["guard"])
    assert service["tmpfs"] == ["/tmp"]
    check_environment(service["environment"])


def test_an_empty_variable_says_nothing(monkeypatch):
    monkeypatch.setenv("DETROJAN_SERVE_UPSTREAM", "")
    assert parsed(["serve", "guard"])["upstream"] is None
    with pytest.raises(Exception, match="No such option"):
        parsed(["serve", "guard", "--upstreams", "x"])
