"""The progress bar of the command line, on a terminal of its own, and Ctrl-C there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from command_line import TIMEOUT, write_sets

pytest.importorskip("rich")

# A shell that runs the tests in the background has its children ignore interrupts.
HEEDING_INTERRUPTS = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("fastgen", run_name="__main__", alter_sys=True)
"""


class OnTerminal:
    """The program with a terminal as its standard error, and what it writes there."""

    def __init__(self, *arguments):
        self.written, self.closed = b"", False
        master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEEDING_INTERRUPTS, *arguments],
            stdout=subprocess.PIPE,
            stderr=slave,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(slave)
        self.grew = threading.Condition()
        self.reader = threading.Thread(target=self._read, args=(master,), daemon=True)
        self.reader.start()

    def _read(self, master):
        while True:
            try:
                text = os.read(master, 4096)
            except OSError:  # Linux says EIO when the other side is closed
                text = b""
            with self.grew:
                self.written += text
                self.closed = not text
                self.grew.notify_all()
            if self.closed:
                os.close(master)
                return

    def wait_for(self, text):
        with self.grew:
            self.grew.wait_for(lambda: self.closed or text in self.written, timeout=TIMEOUT)
            return text in self.written

    def finish(self):
        out, _ = self.process.communicate(timeout=TIMEOUT)
        self.reader.join(timeout=TIMEOUT)
        return self.process.returncode, out


def test_short_work_shows_no_bar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sets()
    program = OnTerminal("evaluate", "real.npy", "fake.npy")
    assert program.finish()[0] == 0
    assert program.written == b""


def test_long_work_shows_a_bar_and_stops_on_interrupt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A k this large leaves nothing to skip: every distance is computed in float64.
    np.save("x.npy", np.random.default_rng(0).standard_normal((20_000, 256), dtype=np.float32))
    options = ["--metrics", "prdc", "--k", "9000", "--threads", "1"]
    program = OnTerminal("evaluate", "x.npy", "x.npy", *options)
    try:
        assert program.wait_for(b"%")
        program.process.send_signal(signal.SIGINT)
        status, out = program.finish()
    finally:
        program.process.kill()
    assert (status, out) == (130, b"")
    assert b"Traceback" not in program.written
    assert program.written.rstrip().endswith(b"fastgen: interrupted")
