"""QEMU is told to stop by one who may not be the first to tell it so, and does not end over that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional

import pytest

from devicemodel.strict_qemu import NEW, RELEASES, Store, Strict, listening, noted, ours, told
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import ASKED, BEGUN, ENDS_OVER_BOTH, end_left
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.devicemodel.through_libxl import ThroughLibxl
from pyxcsr.devicemodel.told import Told
from pyxcsr.errors import DeviceModelError

Deed = Callable[[Store, Path], None]


def saves(store: Store, path: Path) -> None:
    save = told(store, ours(path))
    save.begin()
    save.end()


def recovers(store: Store, path: Path) -> None:
    assert end_left(ours(path), noted(store, ours(path))) is True


def does_nothing(store: Store, path: Path) -> None:
    """Nobody came."""


class Nameless(Qemu):
    """It does not say which release it is."""

    def version(self) -> None:
        return None


def nameless(path: Path) -> Qemu:
    return Nameless(7, str(path), 5.0)


@contextmanager
def begun(
    folder: Path, version: tuple[int, int], model: Callable[[Path], DeviceModel] = ours, *, noting: bool = True
) -> Iterator[tuple[Store, Path, Strict, Told]]:
    """A xenstore, the socket of a QEMU of that release, that QEMU, and one who has had it begin."""
    store, path = Store(), folder / "qmp"
    store.broken = not noting
    with listening(path, version) as qemu:
        mine = told(store, model(path))
        mine.begin()
        yield store, path, qemu, mine


def is_well(qemu: Strict, tracking: bool = False) -> bool:
    return not qemu.dead and qemu.fake.tracking is tracking


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("deed", [saves, recovers, does_nothing])
@pytest.mark.parametrize("version", RELEASES)
def test_whatever_others_did(tmp_path: Path, version: tuple[int, int], deed: Deed, seen: bool) -> None:
    with begun(tmp_path, version) as (store, path, qemu, mine):
        deed(store, path)
        mine.end_beside_others(seen)
        assert is_well(qemu) and noted(store, ours(path)).found() is None
        done = list(qemu.told)
        mine.end_beside_others(seen)
        assert qemu.told == done, "once"


@pytest.mark.parametrize("version", [x for x in RELEASES if x != ENDS_OVER_BOTH])
def test_beside_xens_own_helper(tmp_path: Path, version: tuple[int, int]) -> None:
    """It writes no notes: ours still says that it has begun. QEMU 6.2 has ended when that helper had it begin."""
    with begun(tmp_path, version) as (store, path, qemu, mine):
        ours(path).track(True)
        ours(path).track(False)
        assert noted(store, ours(path)).found() == BEGUN
        mine.end_beside_others()
        assert is_well(qemu)


def test_what_has_not_begun_is_not_told(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, NEW) as qemu:
        mine = told(store, ours(path))
        mine.end_beside_others()
        mine.begin()
        mine.leave()
        mine.end_beside_others()
        assert qemu.told == [True] and is_well(qemu, tracking=True)


@pytest.mark.parametrize("what", [ASKED, "unreadable"])
def test_qemu_6_2_of_which_it_is_not_known(tmp_path: Path, what: str) -> None:
    """Another save was killed before QEMU had answered, or the note cannot be read."""
    with begun(tmp_path, ENDS_OVER_BOTH) as (store, path, qemu, mine):
        noted(store, ours(path)).put(ASKED if what == ASKED else BEGUN)
        store.unreadable = what != ASKED
        for _ in range(2):
            with pytest.raises(DeviceModelError, match="it is not known whether QEMU tells Xen"):
                mine.end_beside_others()
        assert qemu.told == [True] and is_well(qemu, tracking=True)
        store.unreadable = False
        if what != ASKED:
            mine.end_beside_others()
            assert is_well(qemu)


@pytest.mark.parametrize("broken", [False, True], ids=["nameless", "6.2 without a note"])
@pytest.mark.parametrize("seen", [False, True])
def test_without_a_sign_it_is_told_only_if_nobody_was_seen(tmp_path: Path, broken: bool, seen: bool) -> None:
    release, model = (ENDS_OVER_BOTH, ours) if broken else (NEW, nameless)
    with begun(tmp_path, release, model, noting=not broken) as (_, _, qemu, mine):
        if seen:
            for _ in range(2):
                with pytest.raises(DeviceModelError, match="somebody else has ended log-dirty mode"):
                    mine.end_beside_others(seen)
            assert qemu.told == [True]
        else:
            mine.end_beside_others(seen)
            assert qemu.told == [True, False]
        assert is_well(qemu, tracking=seen)


def test_a_nameless_one_that_has_been_stopped(tmp_path: Path) -> None:
    with begun(tmp_path, NEW, nameless) as (store, path, qemu, mine):
        saves(store, path)
        mine.end_beside_others()
        assert is_well(qemu)


def test_qemu_6_2_of_a_guest_that_stands_still_is_told_again(tmp_path: Path) -> None:
    """The note that it was asked is one's own then."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, ENDS_OVER_BOTH) as qemu:
        mine = told(store, ours(path))
        mine._stands_still = lambda: True
        mine.begin()
        qemu.silent = True
        with pytest.raises(DeviceModelError):
            mine.end_beside_others()
        qemu.silent, qemu.fake.tracking = False, True  # it has not heard
        mine.end_beside_others()
        assert is_well(qemu) and noted(store, ours(path)).found() is None


@pytest.mark.parametrize("at", [0, 1], ids=["version", "begin"])
def test_it_is_tried_again(tmp_path: Path, at: int) -> None:
    """Nothing that fails before QEMU is told to stop has it told so."""
    store, path = Store(), tmp_path / "qmp"

    class Busy(Qemu):
        calls: Optional[int] = None

        def _open(self):  # type: ignore[no-untyped-def]
            if self.calls is not None:
                self.calls += 1
                if self.calls == at + 1:
                    raise DeviceModelError("it does not greet", op="greeting")
            return super()._open()

    with listening(path, NEW) as qemu:
        model = Busy(7, str(path), 5.0)
        mine = told(store, model)
        mine.begin()
        saves(store, path)
        before, model.calls = list(qemu.told), 0
        with pytest.raises(DeviceModelError, match="does not greet"):
            mine.end_beside_others()
        assert qemu.told == before
        mine.end_beside_others()
        assert qemu.told == [*before, True, False] and is_well(qemu)


def test_behind_libxl_a_guest_whose_qemu_listens_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PVH guest, or one with another device model: which release it is cannot be asked, and libxl can tell it all
    the same."""
    switched: list[bool] = []
    monkeypatch.setattr("pyxcsr.devicemodel.through_libxl.socket_path", lambda domid: str(tmp_path / "none"))
    mine = told(Store(), ThroughLibxl(lambda domid, on: switched.append(on) or 0, 7))  # type: ignore[func-returns-value]
    mine.begin()
    mine.end_beside_others()
    assert switched == [True, False]
