"""What a killed save has had QEMU do is found afterwards, and undone once, without ending QEMU."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from devicemodel.strict_qemu import NEW, RELEASES, Store, listening, noted, ours, told
from pyxcsr.devicemodel import qmp
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import ASKED, BEGUN, ENDS_OVER_BOTH, end_left, path_of
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.errors import DeviceModelError


@pytest.mark.parametrize("version", RELEASES)
def test_a_save_that_ends_leaves_no_note(tmp_path: Path, version: tuple[int, int]) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        save = told(store, ours(path))
        save.begin()
        assert noted(store, ours(path)).found() == BEGUN and store.nodes[path_of(7)].startswith(b"begun ")
        save.end()
        assert noted(store, ours(path)).found() is None and store.nodes == {path_of(7): b""}
        assert end_left(ours(path), noted(store, ours(path))) is None
        assert qemu.told == [True, False] and not qemu.dead


@pytest.mark.parametrize("version", RELEASES)
def test_what_a_killed_save_has_left_is_ended(tmp_path: Path, version: tuple[int, int]) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        told(store, ours(path)).begin()
        assert end_left(ours(path), noted(store, ours(path))) is True
        assert not qemu.fake.tracking and not qemu.dead
        done = list(qemu.told)
        assert end_left(ours(path), noted(store, ours(path))) is None and qemu.told == done, "once"


@pytest.mark.parametrize("version", RELEASES)
def test_the_next_save_ends_it_with_its_own(tmp_path: Path, version: tuple[int, int]) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        told(store, ours(path)).begin()
        save = told(store, ours(path))
        save.begin()
        assert qemu.fake.tracking and not qemu.dead
        save.end()
        assert not qemu.fake.tracking and not qemu.dead and store.nodes == {path_of(7): b""}


def test_where_another_program_has_ended_it_since(tmp_path: Path) -> None:
    """A save by Xen's own helper begins it, which it is already, and has it stop. Our note is still there."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, NEW) as qemu:
        told(store, ours(path)).begin()
        qemu.fake.tracking = False
        assert end_left(ours(path), noted(store, ours(path))) is True
        assert not qemu.dead and not qemu.fake.tracking
        told(store, ours(path)).begin()
        qemu.fake.tracking = False
        told(store, ours(path)).begin()
        assert qemu.fake.tracking, "the next save must not miss what QEMU writes"


@pytest.mark.parametrize("version", RELEASES)
def test_a_note_about_another_qemu_says_nothing(tmp_path: Path, version: tuple[int, int]) -> None:
    """It was started anew; or this is another domain that has got the same id."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version):
        told(store, ours(path)).begin()
    time.sleep(0.05)  # a file system's clock ticks a hundred times a second, and may give the new socket the old inode
    with listening(path, version) as qemu:
        assert noted(store, ours(path)).found() is None
        assert end_left(ours(path), noted(store, ours(path))) is None and qemu.told == []
        save = told(store, ours(path))
        save.begin()
        save.end()
        assert qemu.told == [True, False] and not qemu.dead


@pytest.mark.parametrize("version", RELEASES)
def test_a_save_that_was_killed_while_it_told_qemu(tmp_path: Path, version: tuple[int, int]) -> None:
    """Whether it had heard or not."""
    for tracking in True, False:
        store, path = Store(), tmp_path / f"qmp{tracking}"
        with listening(path, version) as qemu:
            noted(store, ours(path)).put(ASKED)
            qemu.fake.tracking = tracking
            ended = end_left(ours(path), noted(store, ours(path)))
            assert ended is (version != ENDS_OVER_BOTH) and not qemu.dead
            assert qemu.fake.tracking is (tracking and not ended)
            assert (noted(store, ours(path)).found() == ASKED) is not ended


def test_one_that_stops_without_a_word_is_not_told_again_by_qemu_6_2(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, ENDS_OVER_BOTH) as qemu:
        save = told(store, ours(path))
        save.begin()
        qemu.silent = True
        for _ in range(2):
            with pytest.raises(DeviceModelError):
                save.end()
        assert noted(store, ours(path)).found() == ASKED
        qemu.silent = False
        assert end_left(ours(path), noted(store, ours(path))) is False
        assert qemu.told == [True, False] and not qemu.dead


def test_one_that_cannot_be_reached_is_still_noted(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, ENDS_OVER_BOTH) as qemu:
        model = ours(path)
        save = told(store, model)
        save.begin()
        qemu.fake.greets = False
        short = Qemu(7, str(path), 0.2)
        save._model = short
        with pytest.raises(DeviceModelError):
            save.end()
        assert noted(store, model).found() == BEGUN
        with pytest.raises(DeviceModelError):
            end_left(short, noted(store, short))
        assert qemu.fake.tracking and not qemu.dead


@pytest.mark.parametrize("node", [b"", b"begun", b"begun \xff\xfe", b"else 1-2", b"begun 1-2", b"\x00" * 4000])
def test_a_node_that_is_none_of_ours(tmp_path: Path, node: bytes) -> None:
    store, path = Store(), tmp_path / "qmp"
    store.nodes[path_of(7)] = node
    with listening(path, NEW) as qemu:
        assert end_left(ours(path), noted(store, ours(path))) is None and qemu.told == []


@pytest.mark.parametrize("version", RELEASES)
def test_no_note_can_be_made(tmp_path: Path, version: tuple[int, int]) -> None:
    """The save is as right without, and says once that there is none."""
    store, path, warnings = Store(), tmp_path / "qmp", list[str]()
    store.broken = True
    with listening(path, version) as qemu:
        save = told(store, ours(path), warnings)
        save.begin()
        save.end()
        assert qemu.told == [True, False] and len(warnings) == 1 and "is not noted for `pyxcsr recover`" in warnings[0]


def test_a_device_model_that_cannot_be_told_from_others_is_not_noted() -> None:
    """As of a PVH guest, behind xl: it has none."""
    store, warnings = Store(), list[str]()
    store.broken = True
    save = told(store, DeviceModel(), warnings)
    save.begin()
    save.end()
    assert warnings == [] and store.nodes == {}


def test_which_release_it_is(tmp_path: Path) -> None:
    with listening(tmp_path / "qmp", (10, 1)):
        assert ours(tmp_path / "qmp").version() == (10, 1)
    for odd in b"[]", b'{"qemu": []}', b'{"qemu": {"major": "x", "minor": 1}}', b"7":
        assert qmp._version({"version": json.loads(odd)}) is None
    assert qmp._version([]) is None
