"""pyxcsr on real Xen: each test boots the lab (tests/xenlab) and runs one script of dom0/ there.

    pytest -m real tests/real                  all of it, on both releases
    pytest -m 'real and smoke' tests/real      the short proof, on 4.17

Where apt has no source package of 4.20 its hypervisor has no shadow paging: what saves a PV guest live is then
skipped on 4.20, the rest runs (``live_pv=False``).

The steps, and what each is proof of, stand in the scripts.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import CHECKOUT, IMAGES, Lab, tool

pytestmark = pytest.mark.real
each_release = pytest.mark.parametrize("lab", ["4.17", "4.20"], indirect=True)


@pytest.mark.smoke
@pytest.mark.parametrize("lab", ["4.17"], indirect=True)
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_smoke(lab: Lab, one_wheel: Path, guest: str, tmp_path: Path) -> None:
    """The wheel for every Xen installed, and the guest saved by pyxcsr, xl save and xl migrate."""
    lab.prove("smoke.sh", guest, tmp_path=tmp_path, wheel=one_wheel, pvh=guest == "pvh")


@each_release
def test_install(lab: Lab, tmp_path: Path) -> None:
    """Both backends built in dom0 without a network; domains listed; the demo."""
    out = lab.prove("install.sh", tmp_path=tmp_path, live_pv=False, sources=True)
    assert [wheel.name for wheel in out.glob("pyxcsr-*.whl")]


@each_release
def test_one_wheel(lab: Lab, one_wheel: Path, tmp_path: Path) -> None:
    """The same file on both releases: it loads the libraries of the Xen that runs; what the doctor says is so."""
    lab.prove("doctor.sh", tmp_path=tmp_path, live_pv=False, wheel=one_wheel)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "smp", "pv32"])
def test_save(lab: Lab, guest: str, tmp_path: Path) -> None:
    """pyxcsr save, live and not; unmodified xl restore."""
    lab.prove("save.sh", guest, tmp_path=tmp_path)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "smp", "pv32"])
def test_same_image_as_libxc(lab: Lab, guest: str, tmp_path: Path) -> None:
    """A live save says of every page and record what libxc says of the suspended guest."""
    lab.prove("same.sh", guest, tmp_path=tmp_path)


@each_release
def test_helper(lab: Lab, tmp_path: Path) -> None:
    """xl save through pyxcsr-save-helper, plain xl restore; aborts."""
    lab.prove("helper.sh", tmp_path=tmp_path, live_pv=False)


@each_release
@pytest.mark.parametrize(("guest", "times"), [("pulse", 5), ("smp", 2)])
def test_migrate(lab: Lab, guest: str, times: int, tmp_path: Path) -> None:
    """Live xl migrate, sent by pyxcsr-save-helper, received by the stock helper."""
    lab.prove("migrate.sh", guest, times, tmp_path=tmp_path)


@each_release
def test_errors(lab: Lab, tmp_path: Path) -> None:
    """Bad input, full disks, signals: clear messages, nothing left, the guest goes on."""
    lab.prove("errors.sh", tmp_path=tmp_path)


@each_release
def test_no_shadow_paging(lab: Lab, tmp_path: Path) -> None:
    """Debian's own hypervisor refuses log-dirty: said so; saves that are not live work."""
    lab.prove("noshadow.sh", tmp_path=tmp_path, hypervisor="debian")


@each_release
def test_p2m_changes(lab: Lab, tmp_path: Path) -> None:
    """The guest's p2m grows during a live save."""
    lab.prove("p2m.sh", tmp_path=tmp_path)


@each_release
def test_p2m_changes_are_followed(lab: Lab, tmp_path: Path) -> None:
    """A guest that is ballooned all along and grows in mid-save is migrated, ten times."""
    lab.prove("follow.sh", "ours", 10, tmp_path=tmp_path, seconds=2400)


@each_release
@pytest.mark.parametrize(("guest", "times"), [("pvh", 10), ("hvm", 3)])
def test_physmap_changes_are_followed(lab: Lab, guest: str, times: int, tmp_path: Path) -> None:
    """A PVH or HVM guest that is ballooned all along is migrated; what the balloon brings is checked."""
    lab.prove("balloon.sh", guest, "ours", times, tmp_path=tmp_path, live_pv=False, pvh=guest == "pvh", seconds=2400)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_limits(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`xl migrate` with limits for the pause, the time and the bandwidth, given in the environment and in a file."""
    lab.prove("limits.sh", guest, tmp_path=tmp_path, live_pv=guest == "pulse", pvh=guest == "pvh", seconds=1800)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_migrate_command(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`pyxcsr migrate` from dom0 to itself: with and without zstd, with limits, ended, and by what goes wrong."""
    lab.prove("migratecmd.sh", guest, tmp_path=tmp_path, live_pv=guest == "pulse", pvh=guest == "pvh", seconds=2400)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_remus(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`xl remus` from dom0 to itself, ours at either end and at both: the copy goes on where the guest dies."""
    lab.prove("remus.sh", guest, tmp_path=tmp_path, live_pv=guest == "pulse", pvh=guest == "pvh", seconds=1800)


@each_release
def test_migrate_command_between_two_machines(lab: Lab, tmp_path: Path) -> None:
    """`pyxcsr migrate` to another machine and back, with and without zstd; what it lacks is seen from here."""
    lab.prove("migratepair.sh", "pulse", tmp_path=tmp_path, pair=True, seconds=2400)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh", "hvm"])
def test_control(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`xl migrate` and `xl save` seen and steered from outside: watch, tune, cancel; a second save; what dies."""
    lab.prove("control.sh", guest, tmp_path=tmp_path, live_pv=guest == "pulse", pvh=guest == "pvh", seconds=2400)


@each_release
@pytest.mark.parametrize("guest", ["pvh", "hvm"])
def test_saved_without_libxl(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`pyxcsr save --format xl` of a PVH or HVM guest, its device model included, then plain `xl restore`."""
    lab.prove("hvmformat.sh", guest, tmp_path=tmp_path, live_pv=False, pvh=guest == "pvh", seconds=2400)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh", "hvm"])
def test_dirty_rate(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`pyxcsr dirty-rate` beside the guest's own count; refusals, signals, recover; xl migrate meanwhile."""
    pv = guest == "pulse"
    lab.prove("dirtyrate.sh", guest, tmp_path=tmp_path, live_pv=pv, pvh=guest == "pvh", seconds=2400)


LIBVIRT = ("libvirt-daemon", "libvirt-daemon-system", "libvirt-clients", "libvirt-daemon-driver-xen")


@pytest.mark.parametrize("lab", ["4.17"], indirect=True)
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_libvirt(lab: Lab, guest: str, tmp_path: Path) -> None:
    """virsh save, restore, managedsave and migrate --live through the helper; the settings file; what is ended."""
    tool("debs", "--release", lab.release, tmp_path / "debs", *LIBVIRT)
    carry, pvh = (tmp_path / "debs").glob("*.deb"), guest == "pvh"
    lab.prove("libvirt.sh", guest, tmp_path=tmp_path, live_pv=not pvh, pvh=pvh, carry=carry, seconds=1800)


@pytest.mark.parametrize("lab", ["4.17"], indirect=True)
def test_manual(lab: Lab, one_wheel: Path, tmp_path: Path) -> None:
    """The commands of the manual that need dom0, as they stand in its pages."""
    pages = [CHECKOUT / "docs" / x for x in ("dom0.md", "xl.md", "containers.md")]
    lab.prove("manual.sh", tmp_path=tmp_path, wheel=one_wheel, carry=pages)


@each_release
def test_throttle(lab: Lab, tmp_path: Path) -> None:
    """A cap lowered and given back, by us, after a SIGKILL by recover, and during xl migrate; `xl sched-credit2` says
    what it is."""
    lab.prove("throttle.sh", tmp_path=tmp_path, live_pv=True, seconds=2400)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_dump(lab: Lab, guest: str, tmp_path: Path) -> None:
    """`xl dump-core` of a paused guest and `pyxcsr dump` of its save say the same of each page, mfn and register."""
    lab.prove("dump.sh", guest, tmp_path=tmp_path, live_pv=False, pvh=guest == "pvh", seconds=1200)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "smp"])
def test_figures(lab: Lab, guest: str, tmp_path: Path) -> None:
    """Passes, time paused and pages a second, ours and Xen's own; kept beside the images."""
    out = lab.prove("figures.sh", guest, 3, tmp_path=tmp_path)
    figures = json.loads((out / "figures.json").read_text())
    assert len(figures["medians"]) == 8
    assert all(row.get("pages", 1) > 0 and row["passes"] >= 1 for row in figures["runs"])
    shutil.copy2(out / "figures.json", IMAGES / f"figures-{lab.release}-{guest}.json")
