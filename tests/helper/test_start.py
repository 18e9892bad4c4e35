"""What a start loads: a save helper for which a guest's user waits, the package alone, and the command that only tells.

No clock here: the case `start` of the benchmarks has that. This keeps modules out that take long to load.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import pyxcsr

HEAVY = {
    "argparse", "ast", "collections", "configparser", "contextlib", "copy", "dataclasses", "enum", "fractions",
    "functools", "importlib.metadata", "importlib.util", "inspect", "json", "logging", "pathlib", "random", "re",
    "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "traceback", "typing", "urllib.parse",
    "weakref",
}  # fmt: skip
HELPER = "from pyxcsr.helper.main import program; program()"
MAIN = "import sys; from pyxcsr.cli.main import main; sys.exit(main())"
SUSPENDED, TAKEN = 1, 0


def loaded(code: str, *words: str, **more: object) -> set[str]:
    """The modules that a program loads beyond those that Python itself does."""
    env = {x: y for x, y in os.environ.items() if not x.startswith("PYXCSR_")}
    env.update(more.pop("env", {}))  # type: ignore[call-overload]
    found = []
    for arguments in (["pass"], [code, *words]):
        command = [sys.executable, "-X", "importtime", "-c", *arguments]
        done = subprocess.run(
            command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, check=True, timeout=120,
            **more if arguments != ["pass"] else {},  # type: ignore[call-overload]
        )  # fmt: skip
        lines = done.stderr.decode().splitlines()
        found.append({x.rpartition("|")[2].strip() for x in lines if x.startswith("import time:")})
    return found[1] - found[0]


@pytest.mark.parametrize(
    ("guest", "own"),
    [("pv64:mem=1M", {"pyxcsr.guest.pv.save"}), ("pvh:mem=1M", {"pyxcsr.guest.hvm.save"}),
     ("hvm:mem=4M", {"pyxcsr.guest.hvm.save"})],
)  # fmt: skip
def test_a_save_helper_loads_nothing_heavy(tmp_path: Path, guest: str, own: set[str]) -> None:
    """From its start to the stream's last byte."""
    answers, answered = os.pipe()
    os.write(answered, struct.pack("=ii", SUSPENDED, TAKEN))
    with open(tmp_path / "stream", "wb") as out:
        words = ["--save-domain", str(out.fileno()), "-1", "1", "1", str(1 << 3), "0"]
        env = {"PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": guest}
        names = loaded(HELPER, *words, env=env, stdin=answers, pass_fds=[out.fileno()])
    os.close(answers), os.close(answered)
    assert (tmp_path / "stream").stat().st_size > 1 << 16, "it is to have saved something"
    assert own | {"pyxcsr.transfer.saver"} <= names, "it is to be seen what is loaded"
    assert not names & HEAVY


def test_looking_for_other_saves_loads_nothing_heavy() -> None:
    """On Xen every save does, before it begins."""
    code = "from pyxcsr.transfer import others; others.savers_of; from pyxcsr.transfer.savers import Savers; "
    names = loaded(code + "Savers(1).now(), Savers(1).ancestors()")
    assert "pyxcsr.transfer.others" in names and not names & HEAVY


LATE = """
import os, sys
from pyxcsr.helper import saving
from pyxcsr.helper.main import main
asked = saving.SuspendThroughLibxl.__call__

def suspend(self):
    asked(self)
    before.update(sys.modules)

def leave(status):
    with open(os.environ["SEEN"], "w") as out:
        print(status, *sorted(set(sys.modules) - before), file=out)

before = set()
saving.SuspendThroughLibxl.__call__ = suspend
main(leave=leave)
"""


@pytest.mark.parametrize("live", [0, 1])
@pytest.mark.parametrize("guest", ["pv64:mem=1M", "pvh:mem=1M", "hvm:mem=4M"])
def test_nothing_is_loaded_once_the_guest_is_suspended(tmp_path: Path, guest: str, live: int) -> None:
    """The package may be replaced while saves are running, and they go on with what they have."""
    answers, answered = os.pipe()
    os.write(answered, struct.pack("=ii", SUSPENDED, TAKEN))
    with open(tmp_path / "stream", "wb") as out:
        words = ["--save-domain", str(out.fileno()), "-1", str(live), "1", str(1 << 3), "0"]
        env = {**os.environ, "PYXCSR_BACKEND": "stub", "PYXCSR_STUB_GUEST": guest, "SEEN": str(tmp_path / "seen")}
        subprocess.run(
            [sys.executable, "-c", LATE, *words], env=env, stdin=answers, stdout=subprocess.DEVNULL, check=True,
            timeout=120, pass_fds=[out.fileno()],
        )  # fmt: skip
    os.close(answers), os.close(answered)
    assert (tmp_path / "seen").read_text() == "0\n"


def test_the_package_alone_loads_nothing() -> None:
    assert loaded("import pyxcsr") == {"__future__", "pyxcsr"}


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_a_command_that_only_tells_loads_nothing_heavy(option: str) -> None:
    names = loaded(MAIN, option)
    assert "pyxcsr.cli.main" in names and not names & HEAVY


def test_the_installed_helper_is_a_script_of_its_own() -> None:
    """What pip writes for an entry point loads re."""
    path = Path(sys.executable).with_name("pyxcsr-save-helper")
    if not path.exists() or "site-packages" not in str(pyxcsr.__file__):
        pytest.skip("the package is not installed for this Python")
    assert "import re\n" not in path.read_text() and "pyxcsr.helper.main" in path.read_text()
