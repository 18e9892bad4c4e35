"""A save through the loader, over the stub hypervisor as a release's libraries: the stub backend's stream exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.same import check_same

from loader import facts
from loader.build import RELEASES
from loader.conftest import Driver
from loader.driver import TRIED
from pyxcsr.switches import ENDING, is_on

pytestmark = pytest.mark.toolchain
pytest.importorskip("pyxcsr._loader", reason="the loader was not built here: PYXCSR_BACKENDS=loader,stub")

SAVES = (
    ("pv64:mem=8M", "live"),
    ("pv64:mem=8M,vcpus=2", "paused"),
    ("pvh:mem=8M", "paused"),
    ("hvm:mem=8M", "paused"),
)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, driver: Driver) -> dict[tuple[str, str], bytes]:
    """What the stub backend writes."""
    out, found = tmp_path_factory.mktemp("streams") / "out", {}
    for guest, how in SAVES:
        driver("-", 0, guest, how, out)
        found[guest, how] = out.read_bytes()
    return found


@pytest.mark.parametrize("minor", RELEASES)
def test_equal_to_the_stub_backends(
    minor: int, fakes: Path, driver: Driver, tmp_path: Path, streams: dict[tuple[str, str], bytes]
) -> None:
    for (guest, how), expected in streams.items():
        out = tmp_path / "out"
        answer = driver(fakes, minor, guest, how, out)
        check_same(out.read_bytes(), expected, f"the streams of {guest}, {how},")
        assert answer["tried"] == ([TRIED] if how == "live" and is_on(ENDING) else [])
        loaded = answer["loaded"]
        assert loaded["release"] == 4 << 16 | minor and loaded["known"] == (minor <= facts.NEWEST)
        assert {Path(x).parent for x in loaded["files"].values()} == {fakes / str(minor)}
        assert answer["domains"] == [0, 1] and answer["leaks"] == {}
