"""The files in deploy/ start the processes that bin/up starts, with the same options."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict
from uvicorn.importer import import_from_string

from ginkgo_site.launcher.web import LIMIT_ARGUMENTS, web_command
from scheduling.gateway.request_bodies import MAX_COMMIT_BODY
from scheduling.node_daemon.errors import FatalError
from scheduling.presentation.state_words import ALERTS
from scheduling.systemd import INTERVAL_S

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def text_of(name: str) -> str:
    """Return a file of deploy/."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def document(name: str) -> Any:
    """Return the document of a YAML file of deploy/."""
    return yaml.safe_load(text_of(name))


def unit(path: Path) -> configparser.SectionProxy:
    """Return the section [Service] of a unit."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser["Service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_restart_and_signal_only_the_main_process_at_a_stop(path: Path) -> None:
    service = unit(path)
    assert (service["KillMode"], service["Restart"]) == ("mixed", "always")
    assert service["User"] in ("ginkgo", "ginkgo-node")
    assert int(service["TimeoutStopSec"]) >= 20


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_have_a_watchdog_where_the_program_reports_to_it(path: Path) -> None:
    service = unit(path)
    has_loop = "qcluster" not in service["ExecStart"]
    assert (service["Type"] == "notify") is ("WatchdogSec" in service) is has_loop
    assert int(service.get("WatchdogSec", 30)) >= 30 * INTERVAL_S


def test_units_of_the_version_before_can_import_the_class_that_limits_connections() -> None:
    _, ours, *_ = LIMIT_ARGUMENTS
    assert import_from_string("ginkgo_site.connections:GuardedHttp") is import_from_string(ours)


@pytest.mark.parametrize(
    ("status", "waits"),
    [("KILL", False), ("0", False), ("1", False), ("130", False), ("203", True)]
    # A daemon ends with the same code after its next start.
    + [(str(error.code), True) for error in FatalError.__subclasses__()],
)
def test_a_node_unit_starts_again_at_once_except_after_a_fatal_exit_code(
    status: str, waits: bool, tmp_path: Path
) -> None:
    service = unit(DEPLOY / "systemd/ginkgo-node@.service")
    assert service["RestartSec"] == "20ms"
    shell, option, script = shlex.split(service["ExecStopPost"].replace("$$", "$"))
    waiting = f"sleep() {{ touch {tmp_path}/waited; }}; {script}"
    subprocess.run(
        [shell, option, waiting], env={"EXIT_STATUS": status, "PATH": os.defpath}, check=True
    )
    assert Path(tmp_path, "waited").exists() is waits


def test_web_unit_has_the_options_of_the_launcher() -> None:
    service = unit(DEPLOY / "systemd/ginkgo-web@.service")
    assert shlex.split(service["ExecStart"])[1:] == web_command("${GINKGO_WEB_HOST}", "%i")[1:]
    assert service["Environment"] == "GINKGO_WEB_HOST=127.0.0.1"


def test_web_processes_listen_where_proxy_and_prometheus_ask_and_trust_the_proxy() -> None:
    text = text_of("ginkgo.env.example")
    host, proxy = (
        re.findall(f"^{name}=(.+)$", text, re.MULTILINE)[0]
        for name in ("GINKGO_WEB_HOST", "GINKGO_TRUSTED_PROXIES")
    )
    haproxy = text_of("haproxy.cfg")
    assert f" {host}:8001\n" in haproxy
    assert haproxy.startswith(f"# On {proxy}, ")
    assert f'"{host}:8001"' in text_of("prometheus/prometheus.yml")


def test_web_watcher_worker_and_node_daemon_have_a_unit_each() -> None:
    started = " ".join(unit(path)["ExecStart"] for path in UNITS)
    words = ("ginkgo_site.asgi:application", "run_watcher", "qcluster", "scheduling.node_daemon")
    assert [word for word in words if word not in started] == []


def manifests() -> list[Any]:
    """Return the objects of deploy/kubernetes/."""
    found: list[Any] = []
    for path in sorted((DEPLOY / "kubernetes").rglob("*.yaml")):
        found += yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return found


def specs_of(*kinds: str) -> dict[str, Any]:
    """Return name → spec of the objects of these kinds."""
    return {m["metadata"]["name"]: m["spec"] for m in manifests() if m["kind"] in kinds}


PODS = {
    name: spec["template"]["spec"]
    for name, spec in specs_of("Deployment", "StatefulSet", "Job").items()
}
IN_THE_CONTROL_PLANE = PODS.keys() - {"ginkgo-node"}


def test_each_process_of_the_control_plane_has_a_pod() -> None:
    assert PODS.keys() == {f"ginkgo-{n}" for n in ("web", "watcher", "worker", "node", "migrate")}


@pytest.mark.parametrize("name", PODS)
def test_no_pod_has_rights_that_it_does_not_need(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_a_node_gets_no_variable_of_the_control_plane(name: str) -> None:
    (container,) = PODS[name]["containers"]
    sources = [next(iter(each)) for each in container.get("envFrom", ())]
    assert sources == (["configMapRef", "secretRef"] if name in IN_THE_CONTROL_PLANE else [])


def test_a_node_sees_its_own_token_only() -> None:
    mounts = PODS["ginkgo-node"]["containers"][0]["volumeMounts"]
    secrets = [each for each in mounts if each["name"] == "secrets"]
    paths = [each.get("subPathExpr") or each["subPath"] for each in secrets]
    assert paths == ["$(NODE_NAME)", "ca.pem"]


def test_a_node_has_the_time_to_hand_its_portfolios_over() -> None:
    assert PODS["ginkgo-node"]["terminationGracePeriodSeconds"] >= 30
    budgets = specs_of("PodDisruptionBudget")
    assert budgets["ginkgo-node"]["maxUnavailable"] == 1
    assert budgets["ginkgo-web"]["minAvailable"] == 1


def test_a_web_pod_gets_requests_only_while_it_is_ready() -> None:
    (container,) = PODS["ginkgo-web"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert probe["path"] == "/api/readyz/"
    assert {"name": "X-Forwarded-Proto", "value": "https"} in probe["httpHeaders"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/api/healthz/"


def test_migration_job_runs_the_same_image_as_the_other_pods() -> None:
    first, rest = (each for each in manifests() if each["kind"] == "Kustomization")
    assert first["images"] == rest["images"]
    assert {pod["containers"][0]["image"] for pod in PODS.values()} == {first["images"][0]["name"]}


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
def test_probe_of_a_node_fails_if_its_alive_file_is_old(probe: str, tmp_path: Path) -> None:
    (container,) = PODS["ginkgo-node"]["containers"]
    assert "GINKGO_ALIVE_FILE" in [each["name"] for each in container["env"]]
    file = tmp_path / "alive"

    def status() -> int:
        return subprocess.run(
            container[probe]["exec"]["command"],
            env={"PATH": os.environ["PATH"], "GINKGO_ALIVE_FILE": str(file)},
            capture_output=True,
        ).returncode

    assert status() != 0
    file.touch()
    assert status() == 0
    os.utime(file, times=(time.time() - 60,) * 2)
    assert status() != 0


def test_network_policies_of_nodes_and_web_processes_name_peer_and_port() -> None:
    policies = specs_of("NetworkPolicy")
    node, web = policies["ginkgo-node"], policies["ginkgo-web"]
    assert node["ingress"] == []
    assert all(way["to"] and way["ports"] for way in node["egress"])
    (way,) = web["ingress"]
    (port,) = PODS["ginkgo-web"]["containers"][0]["ports"]
    assert [each["port"] for each in way["ports"]] == [port["containerPort"]]
    assert all(each["namespaceSelector"]["matchLabels"] for each in way["from"])


def test_container_image_has_the_packages_of_ginkgo_and_does_not_run_as_root() -> None:
    text = text_of("Containerfile")
    copied = {line.split()[1] for line in text.splitlines() if line.startswith("COPY ")}
    assert {"ginkgo_site", "portfolios", "scheduling", "templates", "locale"} <= copied
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    # A secret beside the code is not even sent to the builder.
    assert "*" in text_of("Containerfile.dockerignore").splitlines()


def test_compose_separates_nodes_from_the_database() -> None:
    services = document("compose.yml")["services"]
    assert services["postgres"]["networks"] == ["inner"]
    for name in ("node-1", "node-2"):
        assert services[name]["networks"] == ["outer"]
        assert "env_file" not in services[name]
        assert (services[name]["read_only"], services[name]["cap_drop"]) == (True, ["ALL"])


def test_compose_trusts_only_the_network_of_its_proxy_and_mounts_secrets_as_secrets() -> None:
    compose = document("compose.yml")
    services = compose["services"]
    (network,) = compose["networks"]["inner"]["ipam"]["config"]
    for name in ("web-1", "web-2"):
        assert services[name]["environment"]["GINKGO_TRUSTED_PROXIES"] == network["subnet"]
    assert "inner" in services["proxy"]["networks"]
    used = set()
    for service in services.values():
        assert not any("secrets/" in volume for volume in service.get("volumes", ()))
        for secret in service.get("secrets", ()):
            used.add(secret if isinstance(secret, str) else secret["source"])
    assert used == compose["secrets"].keys()


def test_proxies_let_the_largest_body_pass() -> None:
    found = re.search(r"client_max_body_size (\d+)m;", text_of("nginx.conf"))
    assert found is not None
    assert int(found[1]) << 20 > MAX_COMMIT_BODY


def test_patroni_is_configured_for_synchronous_standbys_and_consistent_timeouts() -> None:
    shared = document("patroni.yml")["bootstrap"]["dcs"]
    assert shared["synchronous_mode"] is True
    # Of Patroni: otherwise a primary that renews late demotes itself.
    assert shared["ttl"] >= shared["loop_wait"] + 2 * shared["retry_timeout"]


def test_patroni_may_connect_to_the_server_of_its_own_host() -> None:
    server = document("patroni.yml")["postgresql"]
    replicator = server["authentication"]["replication"]["username"]
    for database, user in (("all", "all"), ("replication", replicator)):
        assert f"host {database} {user} 127.0.0.1/32 scram-sha-256" in server["pg_hba"]


def test_a_shell_can_read_the_example_file_of_variables() -> None:
    example = DEPLOY / "ginkgo.env.example"
    script = 'set -a; . "$1"; exec env -0'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", str(example)], capture_output=True, env={}, check=True
    )
    read = dict(line.split("=", 1) for line in shell.stdout.decode().split("\0") if line)
    (line,) = re.findall("^DATABASE_URL=(.*)$", text_of(example.name), re.MULTILINE)
    assert read["DATABASE_URL"] == line.strip("'")
    assert conninfo_to_dict(read["DATABASE_URL"])["keepalives_count"] == "3"
    assert read["GINKGO_HTTPS"] == "yes"


def test_every_rule_is_tested_and_leads_to_a_receiver() -> None:
    groups = document("prometheus/ginkgo.rules.yml")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    tested = {
        case["alertname"]
        for test in document("prometheus/ginkgo.rules.test.yml")["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules} == tested
    receivers = {each["name"] for each in document("prometheus/alertmanager.yml")["receivers"]}
    assert receivers == {"on-call", "tickets", "dead-mans-switch"}
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket", "none"}


def test_alert_about_web_processes_silences_only_alerts_that_follow_from_it() -> None:
    silenced = []
    for rule in document("prometheus/alertmanager.yml")["inhibit_rules"]:
        matchers = dict(re.split("=~?", each, maxsplit=1) for each in rule["target_matchers"])
        assert matchers.keys() == {"alertname", "kind"} or "GinkgoAlert" not in str(matchers)
        silenced += matchers.get("kind", '""').strip('"').split("|")
    kinds = set(filter(None, silenced))
    assert kinds <= ALERTS.keys()
    assert kinds.isdisjoint({"halted", "quarantined", "verification_differs", "disk_full"})


@pytest.mark.parametrize("title", ["Web processes that nodes can reach", "Age of pulses"])
def test_the_rules_test_an_ended_web_process_by_the_expression_of_the_panel(title: str) -> None:
    """`bin/check` evaluates the expression, for a web process that ended, beside the rules."""
    board = json.loads(text_of("grafana/ginkgo.json"))
    (panel,) = (panel for panel in board["panels"] if panel["title"] == title)
    tests = document("prometheus/ginkgo.rules.test.yml")["tests"]
    (ended,) = (test for test in tests if test.get("promql_expr_test"))
    asked = [case["expr"] for case in ended["promql_expr_test"]]
    assert panel["targets"][0]["expr"] in asked


def test_the_token_of_prometheus_reads_only() -> None:
    for name in (
        "deploy/prometheus/prometheus.yml",
        "deploy/trials/alerting.py",
        "deploy/trials/systemd.py",
        "docs/deploy.md",
    ):
        text = (ROOT / name).read_text(encoding="utf-8")
        found = re.findall("create_api_token prometheus.*", text)
        assert found, name
        assert all(" --create --role viewer --scope read" in line for line in found), name


def test_no_example_has_a_secret() -> None:
    for path in DEPLOY.glob("*.example"):
        for line in text_of(path.name).splitlines():
            if line.startswith(("GINKGO_SECRET_KEY", "GINKGO_ENCRYPTION_KEYS")):
                assert line.endswith("="), f"{path.name}: {line}"
