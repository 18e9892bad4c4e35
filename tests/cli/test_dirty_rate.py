"""`pyxcsr dirty-rate`: what a person and a program see, what is refused, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyxcsr.cli import main
from pyxcsr.cli.show_rate import told
from pyxcsr.measure.result import DirtyRate
from pyxcsr.measure.windows import Counted

TESTS = Path(__file__).resolve().parent.parent
GUEST = "pv64:mem=8M,writer=thread,rate=2000"


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main.main(["dirty-rate", "--backend", "stub", *words])
    out = capfd.readouterr()
    return status, out.out, out.err


def test_text(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(
        capfd, GUEST, "--seconds", "1", "--bandwidth", "10M/s", "--bandwidth", "1G", "--max-downtime", "300ms",
        "--max-downtime", "1ms",
    )  # fmt: skip
    lines = out.splitlines()
    assert status == 0 and err == "" and "pages a second" in lines[0]
    assert "counts once" in out and "pfn " in out and "1G/s" in out
    rows = [x for x in lines if "/s " in x and "ms" in x and ("10M" in x or "1G" in x)]
    assert len(rows) == 4 and max(map(len, lines)) <= 80
    assert "warning" not in out


@pytest.mark.parametrize("kind", ["pvh:mem=4M", "hvm:mem=4M,devmodel=2"])
def test_json(capfd: pytest.CaptureFixture[str], kind: str) -> None:
    status, out, _ = run(capfd, kind, "--seconds", "0.3", "--json", "--max-downtime", "60s")
    found = json.loads(out)
    assert status == 0 and found["ok"] is True and found["warnings"] == []
    assert {"pages_per_second", "windows", "ranges", "per_range", "distinct", "steady", "fetch_seconds"} <= set(found)
    assert {"seconds", "windows", "pages", "most", "pages_per_second"} == set(found["windows"][0])
    assert [x["bandwidth"] for x in found["predictions"]] == [100 << 20, 1 << 30]
    assert all(x["max_downtime"] == 60.0 and x["within"] is True for x in found["predictions"])


@pytest.mark.parametrize(
    "words",
    [
        ("--bandwidth", "fast"),
        ("--bandwidth", "100"),
        ("--bandwidth", "9" * 310),
        ("--bandwidth", str((1 << 62) + 1)),
        ("--max-downtime", "300"),
        ("--max-downtime", "0ms"),
        ("--timeout", "5"),
        ("--max-iterations", "0"),
        ("--target-dirty", "few"),
        ("--on-timeout", "never"),
        ("--seconds", "0"),
        ("--seconds", "nan"),
    ],
)
def test_wrong_options(capfd: pytest.CaptureFixture[str], words: tuple[str, str]) -> None:
    status, out, err = run(capfd, "pv64:mem=4M", *words)
    assert status == 2 and out == "" and words[1] in err


def test_what_is_not_kept_is_said() -> None:
    rows = [Counted(1 / 64, 100, 3000.0, 3000), Counted(1.0, 4, 60000.0, 61000)]
    found = DirtyRate(7, 4.0, 65536, 65536, 4, 60, 1e-4, rows, 64000, 50000, 1024, [1000] * 64, True, ["odd"])
    text = told(found, [found.predict(50e6, 0.01)])
    assert "NOT KEPT: passes used up" in text and "warning: odd" in text and "begun anew" in text
    assert "in each second: 50000" in text and "60000 pages a second" in text
    found.period = 4.0
    assert "; in each 4 s: 50000" in told(found, [])


def test_limits_that_end_the_save(capfd: pytest.CaptureFixture[str]) -> None:
    words = (GUEST, "--seconds", "0.5", "--bandwidth", "1M", "--max-downtime", "10ms")
    status, out, _ = run(capfd, *words, "--timeout", "2s")
    rows = [x for x in out.splitlines() if "1M/s" in x]
    assert status == 0 and len(rows) == 1 and rows[0].endswith(" -  ENDED: timeout") and "the guest runs on" in out
    _, out, _ = run(capfd, *words, "--timeout", "2s", "--on-timeout", "suspend", "--json")
    (row,) = json.loads(out)["predictions"]
    assert (row["ends"], row["why"], row["within"]) == ("saved", "timeout", False) and row["dirty"] > 1000
    _, out, _ = run(capfd, *words, "--abort-if-busy")
    assert "ENDED: too busy" in out
    _, out, _ = run(capfd, GUEST, "--seconds", "0.5", "--bandwidth", "1G", "--target-dirty", "2000")
    assert "short enough" in out
    _, out, _ = run(capfd, GUEST, "--seconds", "0.5", "--bandwidth", "1M", "--target-dirty", "1")
    assert "NOT KEPT: passes used up" in out
    words = (GUEST, "--seconds", "0.5", "--bandwidth", "10M", "--max-downtime", "1us")
    _, out, _ = run(capfd, *words, "--max-iterations", "2")
    assert "NOT KEPT: passes used up" in out


PROGRAM = """
import os, sys
from faults.signals import _watch
_watch(int(sys.argv[1]))
from pyxcsr.cli.main import main
os._exit(main(["dirty-rate", "--backend", "stub", sys.argv[2], "--seconds", "60"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
@pytest.mark.parametrize("kind", [GUEST, "hvm:mem=4M,devmodel=2,writer=thread"])
def test_a_signal_leaves_log_dirty_mode_off(number: signal.Signals, kind: str) -> None:
    reader, writer = os.pipe()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(writer), kind], pass_fds=[writer], env=environ, stderr=subprocess.PIPE
    ) as child:
        os.close(writer)
        assert os.read(reader, 1) == b"+"  # signals are taken from here on
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2.0)
        child.send_signal(number)
        data = b"".join(iter(lambda: os.read(reader, 65536), b""))
        os.close(reader)
        assert child.wait(60) == 128 + number
        assert child.stderr is not None and b"was cancelled" in child.stderr.read()
    assert json.loads(data) == {"running": True, "logdirty": False, "leaks": {}}
