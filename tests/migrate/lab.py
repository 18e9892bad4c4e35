"""Two ends without Xen: small programs in a folder that PATH begins with, and what they play."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from migrate.fake_xl import listed

FAKE_XL = Path(__file__).with_name("fake_xl.py")
INFO = {
    "free_memory": "2000", "xen_major": "4", "xen_minor": "17", "virt_caps": "pv hvm hap shadow",
    "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_64", "hw_caps": "178bf3ff:f6f83203",
    "xen_commandline": "console=com1",
}  # fmt: skip
DOM0 = ("Domain-0", 0, 1000, 2, "r-----")
XL = """\
case $1 in
list) case " $PLAY " in *" no-list-${{SIDE:-here}} "*) echo "ERROR: no hypervisor" >&2; exit 1;; esac
      exec cat "$FAKE/${{SIDE:-here}}.list";;
info) exec cat "$FAKE/${{SIDE:-here}}.info";;
*) exec {python} {fake} xl "$@";;
esac"""
FACTS = '[ "$1$FACTS" != facts ] || { echo "python 3.11"; echo "version 1.0"; echo "xen ok"; exit; }'
"""The relay's answer, without starting Python; with FACTS=real in the environment it gives its own."""

no_zstd = not shutil.which("zstd")


class Ends:
    """Both ends. ``guest``: the one that is to go, number 5."""

    def __init__(self, folder: Path, guest: str = "pulse") -> None:
        self.folder, self.bin, self.guest = folder, folder / "bin", guest
        self.bin.mkdir()
        self.helper, self.relay = self.bin / "pyxcsr-save-helper", self.bin / "pyxcsr-relay"
        python = shlex.quote(sys.executable)
        fake = shlex.quote(str(FAKE_XL))
        self.program("xl", XL.format(python=python, fake=fake))
        self.program(self.helper.name, f'exec {python} {fake} helper "$@"')
        self.program(self.relay.name, f'{FACTS}\nexec {python} -m pyxcsr.migrate.relay "$@"')
        self.program("ssh", 'for x; do last=$x; done; printf "%s\\n" "$*" >>"$FAKE/ssh"\nSIDE=there exec sh -c "$last"')
        self.program("xenstore-read", 'cat "$FAKE/xenstore$1"')
        self.domains("here", DOM0, (guest, 5, 128, 1, "-b----"))
        self.domains("there", DOM0)
        for side in ("here", "there"):
            self.info(side)
        self.node("/libxl/5/type", "pv")
        self.node("/local/domain/5/control/feature-suspend", "1")
        self.node("/local/domain/5/control/shutdown", "")

    def program(self, name: str, script: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def node(self, path: str, value: str) -> None:
        file = self.folder / f"xenstore{path}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")

    def domains(self, side: str, *rows: tuple[str, int, int, int, str]) -> None:
        (self.folder / f"{side}.json").write_text(json.dumps(rows))
        (self.folder / f"{side}.list").write_text(listed([*rows]))

    def info(self, side: str, **changed: str) -> None:
        text = "".join(f"{x:<23}: {y}\n" for x, y in {**INFO, **changed}.items())
        (self.folder / f"{side}.info").write_text(text)

    def names(self, side: str) -> dict[str, str]:
        """State by name, without dom0."""
        return {x[0]: x[4] for x in json.loads((self.folder / f"{side}.json").read_text())[1:]}

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def environ(self, play: str = "", **more: str) -> dict[str, str]:
        kept = {x: y for x, y in os.environ.items() if not x.startswith("PYXCSR_")}
        return {
            **kept, "PATH": f"{self.bin}:{os.environ['PATH']}", "FAKE": str(self.folder), "PLAY": play,
            "PYXCSR_BACKEND": "stub", "PYXCSR_CONFIG": os.devnull,
            "PYXCSR_RUN_DIR": "none", **more,
        }  # fmt: skip

    def words(self, *words: str, host: str = "other") -> list[str]:
        return [sys.executable, "-m", "pyxcsr", "migrate", "--helper", str(self.helper), *words, "--", self.guest, host]

    def migrate(
        self, *words: str, host: str = "other", play: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(*words, host=host), env=self.environ(play, **more), capture_output=True, text=True, timeout=120,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    @property
    def untouched(self) -> bool:
        """Whether xl was never asked to migrate anything."""
        return not (self.folder / "migrate").exists() and self.names("here") == {self.guest: "-b----"}
