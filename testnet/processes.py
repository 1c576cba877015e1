"""The testnet's operating-system processes: started, watched, killed, and never left behind.

Children get a process group of their own, so that Ctrl-C reaches the launcher alone, which then stops them in
order; and on Linux the kernel sends them SIGTERM should the launcher itself be killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import trio
from attrs import define, field

from gridtokenx.errors import GridTokenXError

STOP_TIMEOUT_S = 15.0
TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1


class ProcessError(GridTokenXError):
    """A process of the testnet that ended when it should not have, or would not end."""


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does between fork and exec; the C library is loaded before, since after fork is too late."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def act() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:              # it died in between
            os.kill(os.getpid(), signal.SIGTERM)

    return act


_before_exec = _die_with_parent()


@define(eq=False)
class Child:
    """One process of the testnet and the file its standard error goes to; `start` may be called again after it ended.

    Must be started from the main thread: on Linux the kernel ties a child's life to the thread that made it.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(factory=dict)
    pipe_output: bool = False
    _process: subprocess.Popen[bytes] | None = None
    expected_down: bool = False
    """Set by whoever killed it on purpose; else its end is an error."""

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command), stdin=subprocess.DEVNULL, stderr=log,
                stdout=subprocess.PIPE if self.pipe_output else log, process_group=0,
                env={**os.environ, **self.environment}, preexec_fn=_before_exec)
        self.expected_down = False

    @property
    def output(self) -> IO[bytes]:
        if self._process is None or self._process.stdout is None:
            raise ProcessError(f"{self.name} was not started with its output piped")
        return self._process.stdout

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or was never started; negative: the signal that ended it."""
        return self._process.poll() if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        if self.running and self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, on purpose: the process gets no chance to tidy up."""
        self.expected_down = True
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    async def wait(self, timeout_s: float) -> bool:
        """True once it has ended, false after `timeout_s`."""
        with trio.move_on_after(timeout_s):
            while self.running:
                await trio.sleep(0.02)
        return not self.running

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(lines[-TAIL_LINES:])

    def check(self) -> None:
        """Raises ProcessError, with the end of its log, if it ended by itself."""
        if self._process is not None and not self.running and not self.expected_down:
            raise ProcessError(f"{self.name} ended with {describe_exit(self.exit_code)}; the end of {self.log}:\n"
                               f"{self.tail()}")


def describe_exit(code: int | None) -> str:
    if code is None:
        return "nothing: it runs"
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


async def stop_all(children: Sequence[Child], timeout_s: float = STOP_TIMEOUT_S) -> list[str]:
    """Ends all: SIGTERM, then SIGKILL after `timeout_s`. Not cancelled midway. Returns what went wrong, in words."""
    troubles: list[str] = []
    with trio.CancelScope(shield=True):
        running = [child for child in children if child.running]
        for child in running:
            child.expected_down = True
            child.signal(signal.SIGTERM)
        with trio.move_on_after(timeout_s):
            while any(child.running for child in running):
                await trio.sleep(0.02)
        for child in running:
            if child.running:
                child.kill()
                troubles.append(f"{child.name} did not stop within {timeout_s:.0f} s of SIGTERM and was killed")
            elif child.exit_code != 0:
                troubles.append(f"{child.name} ended with {describe_exit(child.exit_code)} on SIGTERM")
    return troubles
