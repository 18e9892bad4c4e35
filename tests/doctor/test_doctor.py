"""`pyxcsr doctor` on the stub, with an xl and an ssh that play their parts: what it says, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from migrate.lab import Ends

from pyxcsr.doctor import host
from pyxcsr.doctor.found import Ability, Diagnosis, Finding
from pyxcsr.doctor.judge import abilities, between
from pyxcsr.errors import VersionMismatch
from pyxcsr.hypervisor import loading
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.migrate.facts import Facts


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


PROGRAM = """
import sys
program = sys.argv.pop(1)
sys.argv[0] = sys.executable = program
from pyxcsr.cli.main import main
from pyxcsr.migrate import probe
probe.SECONDS = 2.0
sys.exit(main())
"""
"""A helper that happens to stand beside this Python is none of a test's."""


def doctor(
    ends: Ends, *words: str, play: str = "", program: str = "/nowhere/pyxcsr"
) -> subprocess.CompletedProcess[str]:
    """``program``: what it takes itself for."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, program, "doctor", "--backend", "stub", *words],
        env=ends.environ(play),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def told(ends: Ends, *words: str, play: str = "", program: str = "/nowhere/pyxcsr") -> dict[str, Any]:
    done = doctor(ends, "--json", *words, play=play, program=program)
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == found["ok"] == found["healthy"]
    return found


def works(found: dict[str, Any]) -> dict[str, Any]:
    return {x["name"]: x["works"] for x in found["abilities"]}


LIVE_PV, LIVE_HVM = "save PV guests live", "save PVH and HVM guests live"


def test_a_host_with_everything(ends: Ends) -> None:
    found = told(ends)
    assert set(works(found).values()) == {True} and found["ok"]
    assert {x["verdict"] for x in found["findings"]} == {"ok"}
    text = doctor(ends)
    assert text.returncode == 0 and text.stdout.endswith("Nothing is amiss.\n")


def test_a_xen_without_shadow_paging(ends: Ends) -> None:
    """As Debian's is: that is no fault of the host's, and PV guests are saved while they are paused."""
    ends.info("here", virt_caps="pv hvm hap")
    found = told(ends)
    assert works(found)[LIVE_PV] is False and works(found)[LIVE_HVM] is True and found["ok"]
    assert f"no   {LIVE_PV}: this Xen has no shadow paging" in doctor(ends).stdout


def test_a_xen_that_runs_no_pv_guests(ends: Ends) -> None:
    ends.info("here", xen_caps="hvm-3.0-x86_32 hvm-3.0-x86_64")
    found = works(told(ends))
    assert found["save and restore PV guests"] is False and found[LIVE_HVM] is True and LIVE_PV not in found


def test_without_a_helper(ends: Ends) -> None:
    """xl then goes on with Xen's own: a note. One that does not work is a fault."""
    ends.helper.unlink()
    found = told(ends)
    assert [x["verdict"] for x in found["findings"] if x["name"] == "helper"] == ["note"] and found["ok"]
    ends.program("pyxcsr-save-helper", "exit 1")
    ends.program("pyxcsr-relay", 'echo "version 1.0"; echo "xen libxenctrl lacks xc_domctl"')
    assert not told(ends)["ok"]
    assert "lacks xc_domctl" in doctor(ends).stdout


def test_an_xl_that_does_not_work(ends: Ends) -> None:
    found = told(ends, play="no-list-here")
    assert not found["ok"] and any("no hypervisor" in x["text"] for x in found["findings"])


@pytest.mark.parametrize(
    ("script", "said"), [("exec sleep 6", "no answer within 2 s"), ("echo x y z", "`xl list` has a line that")]
)
def test_an_xl_that_does_not_answer(ends: Ends, script: str, said: str) -> None:
    """What was found without it is told all the same: just then one asks the doctor."""
    ends.program("xl", script)
    found = told(ends)
    assert [(x["name"], x["verdict"]) for x in found["findings"] if x["verdict"] != "ok"] == [("xl", "bad")]
    assert said in found["findings"][-1]["text"] and {"libraries", "xenstore"} < {x["name"] for x in found["findings"]}
    assert works(found) == {
        "save PV guests that are paused for it (--no-live), and restore them": True, LIVE_PV: None,
        "save PVH and HVM guests that are paused for it (--no-live), and restore them": True, LIVE_HVM: None,
        "throttle a guest that writes too fast": True, "stand behind `xl save`, `restore` and `migrate`": None,
    }  # fmt: skip
    assert said in doctor(ends).stdout


def test_an_xl_that_answers_neither_here_nor_there(ends: Ends) -> None:
    ends.program("xl", "echo x y z")
    ends.program("ssh", "echo pyxcsr-facts 1; echo xl /usr/sbin/xl; echo pyxcsr xen ok; echo end")
    (judged,) = [x for x in told(ends, "other")["abilities"] if x["name"] == "migrate guests to other"]
    assert judged["works"] is False and judged["why"] == "xl does not work here"


def test_a_helper_beside_the_program(ends: Ends) -> None:
    """`pyxcsr migrate` takes it, whether or not that folder is in PATH; it goes ahead of another one in PATH."""
    beside = ends.folder / "opt"
    beside.mkdir()
    for x in (ends.helper, ends.relay):
        x.rename(beside / x.name)
    found = told(ends, "other", program=str(beside / "pyxcsr"))
    assert works(found)["stand behind `xl save`, `restore` and `migrate`"] is True
    assert any(x["name"] == "helper" and x["text"].startswith(str(beside)) for x in found["findings"])
    (judged,) = [x for x in found["abilities"] if x["name"] == "migrate guests to other"]
    assert judged["works"] is False and judged["why"].startswith("pyxcsr does not work there"), "that one has none"


def test_migrating_needs_what_works_here() -> None:
    """As migrate itself checks it."""
    opened, there = host.Host(), Facts("there")
    opened.opened = True
    there.xl, there.pyxcsr = "xl", {"xen": "ok"}
    here = Facts("here")
    assert between(opened, here, there).why == "xl does not work here; there is no pyxcsr-save-helper here"
    here.xl, here.helper, here.failed = "xl", "helper", "ERROR: no hypervisor"
    assert between(opened, here, there).why == "xl does not work here; pyxcsr-save-helper does not work here"
    here.failed, here.pyxcsr = "", {"xen": "lacks xc_domctl"}
    assert between(opened, here, there).why == "pyxcsr-save-helper does not work here"
    here.pyxcsr["xen"] = "ok"
    assert between(opened, here, there).works is True
    assert between(opened, None, there).why == "xl does not work here"


def test_another_host(ends: Ends) -> None:
    """Its helper's version and its release are told; one with an older Xen, or without a helper, takes no guests."""
    found = told(ends, "other")
    assert works(found)["migrate guests to other"] is True
    assert any(x["name"] == "other: helper" and "pyxcsr 1.0" in x["text"] for x in found["findings"])
    ends.info("there", xen_minor="16")
    found = told(ends, "other")
    assert works(found)["migrate guests to other"] is False and not found["ok"]
    assert "Xen is older there (4.16) than here (4.17)" in doctor(ends, "other").stdout


def test_another_host_that_does_not_answer(ends: Ends) -> None:
    ends.program("ssh", "echo lost >&2; exit 255")
    done = doctor(ends, "other")
    assert done.returncode == 1 and "lost" in done.stdout
    assert doctor(ends, "-oProxyCommand=x").returncode == 2


def test_a_host_without_xen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "SYSFS", str(tmp_path))
    monkeypatch.setattr(host, "DEVICES", (str(tmp_path / "privcmd"),))
    monkeypatch.setattr(host, "open_hypervisor", refuse)
    found = host.look("xen")
    assert not found.opened and {x.name: x.verdict for x in found.findings} == {
        "pyxcsr": "ok", "Xen": "bad", "devices": "bad", "libraries": "bad"
    }  # fmt: skip
    assert not Diagnosis(found.findings, abilities(found, Facts("here"))).healthy


@pytest.mark.parametrize("call", ["domains", "xenstore_read"])
def test_a_hypervisor_that_refuses_its_calls(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It can be opened, but is of another release, or xenstored does not answer: then nothing works that needs it."""

    def fails(self: StubBackend, *args: object) -> None:
        raise VersionMismatch("xc_domain_getinfo: Permission denied", op="xc_domain_getinfolist", errno=13)

    here = Facts("here")
    here.info["virt_caps"] = "pv hvm hap shadow"
    assert [x.works for x in abilities(host.look("stub"), here) if "guests" in x.name] == [True] * 4
    monkeypatch.setattr(StubBackend, call, fails)
    found = host.look("stub")
    (finding,) = [x for x in found.findings if x.verdict == "bad"]
    assert (finding.name, finding.text) == ("hypervisor", "xc_domain_getinfo: Permission denied")
    judged = abilities(found, here)
    assert not any(x.works for x in judged) and not Diagnosis(found.findings, judged).healthy
    assert [x.name for x in judged if "see above" in x.why] == [
        "save and restore PV guests", "save and restore PVH and HVM guests"
    ]  # fmt: skip
    assert "the hypervisor here cannot be used" in between(found, here, Facts("there")).why


def refuse(backend: str) -> None:
    from pyxcsr.errors import BackendUnavailable

    raise BackendUnavailable("libxenctrl of Xen 4.17 (/lib/x) lacks xc_domctl", backend=backend)


@pytest.mark.parametrize(
    ("kind", "major", "minor", "expected"),
    [("xen", "4", "20", 4 << 16 | 20), ("kvm", "4", "20", 0), ("xen", "x", "", 0)],
)
def test_the_release_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, major: str, minor: str, expected: int
) -> None:
    (tmp_path / "version").mkdir()
    for name, text in (("type", kind), ("version/major", major), ("version/minor", minor)):
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(loading, "SYSFS", str(tmp_path))
    assert loading.running() == expected
    assert (host.look("stub").release or (0, 0)) == (4, 17)


def test_what_is_amiss() -> None:
    """What this Xen does not allow is not; what cannot be told is not, either."""
    fine = [Finding("a", "b"), Finding("c", "d", "note")]
    assert Diagnosis(fine, [Ability("x", False, expected=False), Ability("y", None)]).healthy
    assert not Diagnosis(fine, [Ability("x", False)]).healthy
    assert not Diagnosis([*fine, Finding("e", "f", "bad")], []).healthy


@pytest.mark.parametrize("why", ["", "libxenctrl.so.4.17: cannot open shared object file"])
def test_a_module_for_another_xen(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """The loader is used instead, which is no fault; the doctor does not let it look as if ``_xen`` were used."""
    monkeypatch.setattr(host, "passed_over", lambda: why)
    found = [x for x in host.look("xen").findings if x.name == "pyxcsr"]
    assert [x.verdict for x in found] == ["ok", "note"][: 1 + bool(why)]
    assert not why or (why in found[1].text and "the loader is used" in found[1].text)
