"""A server of the real program, on a free port with an empty data directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class Server:
    """A running ``var-dd serve``."""

    def __init__(self, data: Path) -> None:
        program = os.environ.get("VAR_DD_PROGRAM")
        if not program:
            pytest.fail("VAR_DD_PROGRAM is not set; `cargo xtask test` builds the program and sets it")
        self._program, self._data, self._listen = program, data, "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        model = ROOT / "static" / "demo-model"
        arguments = ["serve", "--model", model, "--device", "cpu", "--listen", self._listen]
        environment = {"OMP_NUM_THREADS": "1"}
        self._child = subprocess.Popen(
            [self._program, *arguments, "--data-dir", self._data],
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._child.stdout is not None
        said = []
        for line in self._child.stdout:
            said.append(line)
            found = re.search(r"http://([0-9.]+:[0-9]+)", line)
            if found:
                self._listen = found.group(1)
                break
        else:
            pytest.fail("the server did not come up; it said:\n" + "".join(said))
        threading.Thread(target=self._child.stdout.read, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self._listen}"

    def kill(self) -> None:
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("data"))
    yield server
    server.kill()
