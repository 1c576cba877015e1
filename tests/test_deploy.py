"""The files in deploy/: what they name exists, and a node starts from what they prepare."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gridtokenx.node.config import load_config
from testnet.layout import AUTHORITIES, FOLDER

DEPLOY = Path(__file__).parent.parent / "deploy"
METRICS = (DEPLOY.parent / "gridtokenx" / "api" / "metrics.py").read_text("utf-8")
OF_PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "up"}


def known_metrics() -> set[str]:
    """All that /metrics has, as Prometheus names the series."""
    found = set()
    for name in re.findall(r'"(gridtokenx_\w+)"', METRICS):
        found |= {name, f"{name}_total", f"{name}_bucket"}
    return found | OF_PROCESS


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:gridtokenx|process)_\w+", expression))


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def test_alerts_and_dashboard_name_metrics_that_there_are() -> None:
    rules = read("alerts.yaml")["groups"][0]["rules"]
    dashboard = json.loads((DEPLOY / "grafana" / "gridtokenx.json").read_text("utf-8"))
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in [*(rule["expr"] for rule in rules), *shown]:
        assert names_in(expression) <= known_metrics(), expression
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) > 15
    operator = (DEPLOY.parent / "docs" / "operator.md").read_text("utf-8")
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["alert"] in operator or rule["alert"] == "FewPeers", rule["alert"]


def test_compose_runs_every_authority_where_its_configuration_says(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, str(DEPLOY / "prepare.py"), str(tmp_path)], capture_output=True, text=True,
                           check=False, env={"PYTHONPATH": str(DEPLOY.parent)})
    assert ended.returncode == 0, ended.stderr
    services = read("compose.yaml")["services"]
    addresses = {}
    for name in AUTHORITIES:
        config = load_config(tmp_path / name / "gridtokenx.toml", {})
        addresses[name] = services[name]["networks"]["chain"]["ipv4_address"]
        assert config.network.announce == (f"/ip4/{addresses[name]}/tcp/9400",)
        assert len(config.network.bootstrap) == len(AUTHORITIES) - 1
        assert services[name]["command"] == ["start", "--config", f"/srv/gridtokenx/{name}/gridtokenx.toml"]
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"]
        for where in ("node.key", "genesis.toml", "data"):
            assert (tmp_path / name / where).exists()
    assert len((tmp_path / "nodes").read_text().split()) == len(set(addresses.values())) == len(AUTHORITIES)
    genesis = {(tmp_path / name / "genesis.toml").read_text() for name in AUTHORITIES}
    assert len(genesis) == 1 and (FOLDER / "genesis.toml").exists()
    again = (tmp_path / "egat" / "genesis.toml").read_bytes()
    subprocess.run([sys.executable, str(DEPLOY / "prepare.py"), str(tmp_path)], check=True,
                   env={"PYTHONPATH": str(DEPLOY.parent)})
    assert (tmp_path / "egat" / "genesis.toml").read_bytes() == again      # a chain that runs is not begun anew
    targets = {config["targets"][0] for config in read("prometheus.yaml")["scrape_configs"][0]["static_configs"]}
    assert targets == {f"{name}:9480" for name in AUTHORITIES}


def test_the_image_does_not_run_as_root_and_has_what_it_copies() -> None:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]
    assert sum(line.startswith("FROM ") for line in lines) == 2
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (DEPLOY.parent / source).exists(), source


@pytest.mark.parametrize("key", ["User=gridtokenx", "RestartPreventExitStatus=2 3", "NoNewPrivileges=yes",
                                 "ProtectSystem=strict", "ReadWritePaths=/srv/gridtokenx"])
def test_the_unit_is_confined_and_stays_down_where_starting_again_mends_nothing(key: str) -> None:
    assert key in (DEPLOY / "gridtokenx.service").read_text("utf-8").splitlines()
