"""The log of a process: lines that cannot be written are lost, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gridtokenx.node import logs, main
from gridtokenx.node.config import NodeConfig


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("a") as file, Path("/dev/full").open("w") as full:
        lines = logs.Lines(full)
        lines.write("one\n")
        lines.write("two\n")
        assert lines.lost == 2
        lines._descriptor = file.fileno()
        lines.write("three\n")
        lines.write("four\n")
        assert lines.lost == 0
    assert path.read_text() == "2 lines of this log could not be written\nthree\nfour\n"


def test_a_configured_log_on_a_full_disk_raises_nothing() -> None:
    logs.configure("n", "info", "json", Path("/dev/full"))
    structlog.get_logger("x").info("said")


def test_a_trace_says_nothing_of_what_variables_hold(tmp_path: Path) -> None:
    logs.configure("n", "info", "pretty", tmp_path / "log")
    passphrase = "sesame".upper()
    try:
        raise ValueError(len(passphrase))
    except ValueError:
        structlog.get_logger("x").exception("failed")
    text = (tmp_path / "log").read_text()
    assert "ValueError: 6" in text and "Traceback" in text and "SESAME" not in text


def test_what_the_system_refuses_ends_the_node_with_exit_code_2(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    config = NodeConfig.__new__(NodeConfig)
    log = tmp_path / "log"

    class Section:
        name, level, format, file = "n", "info", "json", log

    monkeypatch.setattr(NodeConfig, "node", Section, raising=False)
    monkeypatch.setattr(NodeConfig, "log", Section, raising=False)

    async def refused(*_: object) -> None:
        raise OSError(28, "No space left on device", "lock")

    monkeypatch.setattr(main, "_until_signalled", refused)
    assert main.run(config) == 2
    assert "No space left on device" in log.read_text()
