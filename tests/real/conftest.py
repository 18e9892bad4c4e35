"""The lab with real Xen as a fixture: images built once, each script one boot of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import pytest

TESTS = Path(__file__).resolve().parent.parent
CHECKOUT = TESTS.parent
LAB = TESTS / "xenlab"
SCRIPTS = Path(__file__).resolve().parent / "dom0"
IMAGES = Path(os.environ.get("XENLAB", "/var/tmp/xenlab"))
TIME_OUT, NO_ANSWER = 124, 125  # statuses of tests/xenlab/run
XEN_DIED = "Panic on CPU"  # the console's end is shown when nothing came back from dom0
LEFT_OUT = " left out: "  # what tests/real/dom0/lib.sh says of steps that the hypervisor cannot do
PAIR_SIZE = ("--mem", "2048", "--dom0-mem", "768", "--cpus", "1")  # each of two machines at a time
NO_AVX = "max,-la57,-smap,-smep,-rdtscp,-avx"  # run's usual --cpu but for the last word
WITH_SHADOW = "4.17"  # the release that must have shadow paging: PV guests are saved live on it


def why_not() -> Optional[str]:
    """What this machine lacks for the lab, or None."""
    if os.uname().machine != "x86_64":
        return "the lab's Xen is built for x86-64"
    if os.geteuid() != 0:
        return "the lab needs root: it installs QEMU by apt and makes a root file system"
    if not shutil.which("qemu-system-x86_64") and not shutil.which("apt-get"):
        return "there is no QEMU and no apt to install it with"
    return None


def tool(name: str, *arguments: object, **environment: str) -> None:
    """Runs one of the lab's tools; its output is shown, a failure is the test's failure."""
    command = [str(LAB / name), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: status {done.returncode}", pytrace=False)


def copy_tracked(to: Path) -> None:
    """The checkout's tracked files, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=CHECKOUT, stdout=subprocess.PIPE, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        source = CHECKOUT / name
        if name and source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)


class Lab:
    """One release of Xen, ready to boot."""

    def __init__(self, release: str, work: Path) -> None:
        self.release = release
        self.images = IMAGES if release == "4.17" else IMAGES / release
        self.sources = work / "sources"
        self.wheels = work / "wheels"
        tool("build", "--release", release)
        copy_tracked(self.sources)

    def hypervisor(self, live_pv: bool) -> str:
        """The best that there is; a test that saves PV guests live is skipped where there is no shadow paging."""
        if (self.images / "xen-shadow.elf").exists():
            return "shadow"
        reason = (
            f"the lab's Xen {self.release} has no shadow paging, without which a PV guest cannot be saved live: "
            "apt had no source package of it to build such a hypervisor from"
        )
        if self.release == WITH_SHADOW:
            pytest.fail(reason, pytrace=False)
        if live_pv:
            pytest.skip(reason)
        return "debian"

    def payload(self, to: Path, wheel: Optional[Path] = None) -> Path:
        """The scripts, and this wheel or one built with dom0's own tools (not under emulation) for this release."""
        if not wheel and not self.wheels.exists():
            build = to.with_name("build")
            shutil.copytree(self.sources, build)
            tool("wheel", "--release", self.release, build, self.wheels, PYXCSR_BACKENDS="xen,stub")
        shutil.copytree(SCRIPTS, to / SCRIPTS.relative_to(CHECKOUT))
        for built in [wheel] if wheel else self.wheels.iterdir():
            shutil.copy2(built, to)
        return to

    def boot(
        self, script: str, *arguments: object, payload: Path, out: Path, hypervisor: str, cpu: str, seconds: int,
        pair: bool = False,
    ) -> tuple[int, str]:
        """Runs the script in dom0, or in both of a pair; its status, and all that was printed, which is shown too."""
        machine = [str(LAB / "pair"), *PAIR_SIZE] if pair else [sys.executable, str(LAB / "run")]
        command = [*machine, "--release", self.release, "--hypervisor", hypervisor,
                   "--timeout", str(seconds), *(["--cpu", cpu] if cpu else []),
                   "--payload", str(payload), "--out", str(out), "--", str(SCRIPTS / script), *map(str, arguments)]
        lines = []
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", errors="replace",
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                lines.append(line)
                sys.stdout.write(line)
                sys.stdout.flush()
        return run.returncode, "".join(lines)

    def prove(
        self, script: str, *arguments: object, tmp_path: Path, live_pv: bool = True, hypervisor: Optional[str] = None,
        sources: bool = False, wheel: Optional[Path] = None, carry: Iterable[Path] = (), pvh: bool = False,
        cpu: str = "", pair: bool = False, seconds: int = 1200,
    ) -> Path:
        """Boots, runs the script and asserts that each of its steps went well. Returns dom0's /out.

        ``live_pv``: the script makes no sense without live saves of PV guests, so is skipped where Xen cannot do
        them; otherwise it runs there on Debian's hypervisor, and may leave out single steps. ``hypervisor``: this
        one and no other. ``sources``: pyxcsr is built in dom0; ``wheel``: it is installed from this file.
        ``carry``: files that are to be in /payload besides pyxcsr and the scripts. ``pvh``: it
        starts a PVH guest, which on an emulated 4.17 dies of AVX. ``cpu``: the machine's, instead of what is usual
        there. ``pair``: two machines joined by a network run it, with their number before its arguments.
        ``seconds`` it may take.

        The emulator itself hangs now and then; a boot that neither ended nor told of a failure is tried
        once more, with a warning, unless it was Xen that died.
        """
        hypervisor = hypervisor or self.hypervisor(live_pv)
        cpu = cpu or (NO_AVX if pvh and self.release == "4.17" else "")
        payload = self.sources if sources else self.payload(tmp_path / "payload", wheel)
        for file in carry:
            shutil.copy2(file, payload)
        what = f"{script} on Xen {self.release}"
        for left in (1, 0):
            out = tmp_path / f"out{left}"
            status, text = self.boot(
                script, *arguments, payload=payload, out=out, hypervisor=hypervisor, cpu=cpu, seconds=seconds,
                pair=pair,
            )
            if status not in (TIME_OUT, NO_ANSWER) or "FAIL" in text or XEN_DIED in text or not left:
                break
            warnings.warn(f"{what}: the lab hung (status {status}); once more", stacklevel=2)
        failed = [line for line in text.splitlines() if " FAIL " in line]
        assert status == 0 and not failed, f"{what}: status {status}\n" + "\n".join(failed)
        assert " ok " in text and "failures: 0" in text, f"{script} did not run to its end"
        assert hypervisor != "shadow" or LEFT_OUT not in text, f"{what} left out what this hypervisor can do"
        return out


_labs: dict[str, Lab] = {}


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab of the release that the test is parametrised with."""
    reason = why_not()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI has to run this: {reason}", pytrace=False)
    if reason:
        pytest.skip(reason)
    return lab_of(request.param, tmp_path_factory)


def lab_of(release: str, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab of a release, made once."""
    if release not in _labs:
        _labs[release] = Lab(release, tmp_path_factory.mktemp("lab"))
    return _labs[release]


@pytest.fixture(scope="session")
def one_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the loader, which is for every release; built with the older dom0's tools."""
    oldest, folder = lab_of("4.17", tmp_path_factory), tmp_path_factory.mktemp("one")
    shutil.copytree(oldest.sources, folder / "sources")
    tool("wheel", "--release", oldest.release, folder / "sources", folder / "wheel", PYXCSR_BACKENDS="loader,stub")
    (made,) = (folder / "wheel").glob("*.whl")
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A boot under emulation has the limit its script is given."""
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.timeout(0))
