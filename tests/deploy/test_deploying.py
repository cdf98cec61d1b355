"""The files in deploy/, each by its own linter; that they agree with each other and with the daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import date
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rtobserver.config.advice import warnings
from rtobserver.config.load import load
from rtobserver.config.release import unsupported
from rtobserver.config.sections import Config
from rtobserver.daemon import DRAIN_SECONDS
from tests.browser.certificates import certify
from tests.deploy import proxy

TOP = Path(__file__).resolve().parents[2]
DEPLOY = TOP / "deploy"
KEY = "A" * 43
NAMES = {"UPSTREAM_API_KEY": "key", "TOKEN_KEY": KEY}
KUBERNETES = ("1.30", "1.34")
EXPOSURE = 2.0
"""Of 10, as systemd-analyze counts; an unhardened service has 9.6."""


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "rtobserver.yaml").read_text()))


def name_of(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [document for document in documents() if document["kind"] == kind]
    return found


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return read


# --- container -----------------------------------------------------------------------------------------


def test_hadolint_finds_nothing_in_the_container_file() -> None:
    words = [str(Path(sys.executable).parent / "hadolint"), "--format", "json", str(DEPLOY / "Containerfile")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (json.loads(done.stdout), done.returncode) == ([], 0)


def test_all_that_the_container_file_copies_is_there_and_sent_to_the_builder() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    copied = [line.split()[:-1] for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)]
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    for path in (path for paths in copied for path in paths):
        assert (TOP / path).exists(), path
        assert f"!{path}" in ignored, path


def test_the_container_runs_as_nobody_special_and_says_whether_it_lives() -> None:
    last = (DEPLOY / "Containerfile").read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER (\d+):\1$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert "/livez" in last
    assert "ADD" not in last


def test_the_locked_requirements_of_the_container_are_those_of_the_others() -> None:
    """The same versions as the tests have run with."""
    pinned = re.compile(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;]+)", re.MULTILINE)
    tested = dict(pinned.findall((TOP / "requirements" / "dev.lock").read_text()))
    shipped = dict(pinned.findall((TOP / "requirements" / "container.lock").read_text()))
    assert {"asyncpg", "aiohttp", "pyjwt"} <= set(shipped)
    assert shipped.items() <= tested.items()


# --- compose -------------------------------------------------------------------------------------------


def test_compose_uses_what_it_declares_and_declares_what_it_uses() -> None:
    read = compose()
    services = read["services"].values()
    volumes = {mount.partition(":")[0] for service in services for mount in service.get("volumes", [])}
    assert volumes == set(read["volumes"])
    configs = {config["source"] for service in services for config in service.get("configs", [])}
    assert configs == set(read["configs"])
    assert {name for service in services for name in service["networks"]} == set(read["networks"])
    for service in services:
        assert set(service.get("depends_on", [])) <= set(read["services"])
    files = {config["file"] for config in read["configs"].values()} - {"callers"}
    assert all((DEPLOY / "compose" / file).is_file() for file in files)
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose" / "compose.yaml").read_text()))
    assert variables == set(re.findall(r"^(\w+)=", (DEPLOY / "compose" / "example.env").read_text(), re.MULTILINE))


def test_each_replica_of_compose_has_a_journal_of_its_own_and_may_write_nowhere_else() -> None:
    replicas = [service for name, service in compose()["services"].items() if name.startswith("replica")]
    assert len(replicas) == 2
    assert len({tuple(replica["volumes"]) for replica in replicas}) == 2
    for replica in replicas:
        assert replica["read_only"] is True
        assert replica["cap_drop"] == ["ALL"]
        assert _seconds(replica["stop_grace_period"]) > DRAIN_SECONDS


def test_the_configuration_of_compose_is_good(tmp_path: Path) -> None:
    config = load(DEPLOY / "compose" / "rtobserver.toml", NAMES)
    _check_replica(config, compose()["services"]["replica-1"]["volumes"][0].partition(":")[2])


def test_replicas_of_compose_believe_nginx_and_no_other_peer_in_its_network() -> None:
    read = compose()
    [inside] = read["networks"]["inside"]["ipam"]["config"]
    network, dealt = IPv4Network(inside["subnet"]), IPv4Network(inside["ip_range"])
    nginx = IPv4Address(read["services"]["nginx"]["networks"]["inside"]["ipv4_address"])
    config = load(DEPLOY / "compose" / "rtobserver.toml", NAMES)
    assert config.public.auth.trusted_proxies == (f"{nginx}/32",)
    assert nginx in network
    # neither the machine's own address there, nor one that another container may be given
    assert nginx != IPv4Address(inside["gateway"])
    assert dealt.subnet_of(network)
    assert nginx not in dealt


# --- Kubernetes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    "document", documents(), ids=lambda document: f"{document['kind']}-{document['metadata']['name']}"
)
def test_a_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_would_find_a_mistake() -> None:
    wrong = of_kind("StatefulSet")
    wrong["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


def test_the_manifests_point_at_each_other() -> None:
    spec = of_kind("StatefulSet")["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    assert spec["selector"]["matchLabels"].items() <= labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels
    [container] = spec["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    services = {found["metadata"]["name"]: found["spec"] for found in documents() if found["kind"] == "Service"}
    for service in services.values():
        assert service["selector"].items() <= labels
        assert {port["targetPort"] for port in service["ports"]} <= set(ports)
    assert spec["serviceName"] in services
    for rule in of_kind("Ingress")["spec"]["rules"]:
        assert rule["http"]["paths"][0]["backend"]["service"]["name"] in services
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert mounts == claims | {volume["name"] for volume in spec["template"]["spec"]["volumes"]}


def test_a_pod_has_the_time_to_drain_and_no_rights() -> None:
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + DRAIN_SECONDS
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == _user_of_the_container()
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_configuration_of_the_manifests_is_good(tmp_path: Path) -> None:
    spec = of_kind("StatefulSet")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    [secret] = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    for item in secret["items"]:
        (tmp_path / item["path"]).write_text(KEY)
    text = of_kind("ConfigMap")["data"]["config.toml"]
    assert mounts["secrets"] in text
    path = tmp_path / "config.toml"
    path.write_text(text.replace(mounts["secrets"], str(tmp_path)))
    config = load(path, {})
    _check_replica(config, mounts["journal"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"callers": config.public.port, "operators": config.operator.port}
    hosts = [f"https://{rule['host']}" for rule in of_kind("Ingress")["spec"]["rules"]]
    assert hosts == [config.public.base_url, config.operator.base_url]


# --- systemd -------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Write the unit with a program that is there."""
    text = (DEPLOY / "systemd" / "rtobserver.service").read_text()
    path = tmp_path / "rtobserver.service"
    path.write_text(
        text.replace("/opt/rtobserver/bin/rtobserver serve", f"{Path(sys.executable).parent}/rtobserver serve")
    )
    return path


def systemd_analyze(*words: str) -> str:
    program = shutil.which("systemd-analyze")
    assert program is not None, "systemd-analyze is missing: tests/deploy/install-linters"
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_in_the_unit(unit: Path) -> None:
    assert systemd_analyze("verify", "--man=no", str(unit)) == ""


def test_systemd_would_find_a_mistake_in_the_unit(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("Type=exec", "Type=exek"))
    program = shutil.which("systemd-analyze") or ""
    done = subprocess.run([program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "exek" in done.stderr


def test_the_unit_leaves_little_to_be_misused(unit: Path) -> None:
    said = systemd_analyze("security", "--offline=yes", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None
    assert float(found[1]) <= EXPOSURE


def test_the_unit_waits_for_a_drain() -> None:
    found = re.search(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd" / "rtobserver.service").read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) > DRAIN_SECONDS


# --- nginx ---------------------------------------------------------------------------------------------


def check_nginx(folder: Path, config: Path) -> None:
    done = subprocess.run(
        [proxy.program(), "-t", "-p", str(folder), "-c", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_nginx_takes_the_example_with_certificates(tmp_path: Path) -> None:
    made = certify(tmp_path, "voice.example.com", "127.0.0.1")
    changes = {
        "/etc/ssl/rtobserver/voice.pem": str(made.path),
        "/etc/ssl/rtobserver/voice.key": str(made.key),
        "/etc/ssl/rtobserver/operators.pem": str(made.path),
        "/etc/ssl/rtobserver/operators.key": str(made.key),
        "/var/log/nginx/": f"{tmp_path}/",
    }
    check_nginx(tmp_path, proxy.prepare(tmp_path, DEPLOY / "nginx" / "rtobserver.conf", changes))


def test_nginx_takes_the_file_of_compose(tmp_path: Path) -> None:
    changes = {"replica-1": "127.0.0.1", "replica-2": "127.0.0.2", "/dev/stdout": f"{tmp_path}/log"}
    check_nginx(tmp_path, proxy.prepare(tmp_path, DEPLOY / "compose" / "nginx.conf", changes))


@pytest.mark.parametrize("name", ["nginx/rtobserver.conf", "compose/nginx.conf"])
def test_no_proxy_sends_an_offer_twice(name: str) -> None:
    said = re.sub(r"#.*", "", (DEPLOY / name).read_text())
    assert re.findall(r"proxy_next_upstream ([^;]*);", said) == ["error timeout"]
    assert "non_idempotent" not in said


def _check_replica(config: Config, mount: str) -> None:
    assert config.store.url.startswith("postgresql://")
    assert Path(config.store.journal_dir).is_relative_to(mount)
    assert (config.public.host, config.operator.host) == ("0.0.0.0", "0.0.0.0")
    assert config.public.auth.mode != "none"
    assert unsupported(config) == []
    assert warnings(config, date(2026, 11, 23)) == []


def _user_of_the_container() -> int:
    found = re.search(r"^USER (\d+)", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _seconds(written: str) -> int:
    assert written.endswith("s")
    return int(written[:-1])
