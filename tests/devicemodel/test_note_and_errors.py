"""QEMU or xenstore fails while QEMU is told something: the note stays true, and QEMU is told nothing that ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from devicemodel.strict_qemu import NEW, OLD, RELEASES, Store, Strict, listening, noted, ours, told
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.devicemodel.noted import ASKED, BEFORE, BEGUN, ENDS_OVER_BOTH, end_left
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.devicemodel.through_libxl import ThroughLibxl
from pyxcsr.errors import DeviceModelError

LATE = ["xen-set-global-dirty-log", "switch_qemu_logdirty"]
"""Where an error says that the command may have been sent: to QEMU, to libxl."""


class Failing(Qemu):
    """QEMU answers, but for ``version`` and ``track``, as long as ``version_fails`` and ``fails`` name an op.

    ``spares``: of what it is told, which does not fail.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(7, str(path), 5.0)
        self.version_fails: Optional[str] = None
        self.fails: Optional[str] = None
        self.spares: Optional[bool] = None

    def version(self) -> Optional[tuple[int, int]]:
        if self.version_fails is not None:
            raise DeviceModelError("it does not greet", op=self.version_fails)
        return super().version()

    def track(self, on: bool) -> None:
        if self.fails is not None and on is not self.spares:
            raise DeviceModelError("no", op=self.fails)
        super().track(on)


class Nameless(Qemu):
    """It does not say which release it is."""

    def version(self) -> None:
        return None


def is_noted(store: Store, model: DeviceModel) -> Optional[str]:
    return noted(store, model).found()


def refused(store: Store, model: DeviceModel, qemu: Strict, says: str) -> None:
    """A save does not begin, and QEMU is told nothing."""
    before, was = list(qemu.told), None if store.unreadable else is_noted(store, model)
    with pytest.raises(DeviceModelError, match=says):
        told(store, model).begin()
    assert qemu.told == before and not qemu.dead
    if not store.unreadable:
        assert is_noted(store, model) == was


# -- the next save


@pytest.mark.parametrize("tracking", [False, True])
@pytest.mark.parametrize("version", RELEASES)
def test_the_user_tries_again_after_qemu_has_not_answered(
    tmp_path: Path, version: tuple[int, int], tracking: bool
) -> None:
    """Whether it had heard or not."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        qemu.silent = True
        with pytest.raises(DeviceModelError):
            told(store, ours(path)).begin()
        assert qemu.told == [True] and is_noted(store, ours(path)) == ASKED
        qemu.silent, qemu.fake.tracking = False, tracking
        if version == ENDS_OVER_BOTH:
            refused(store, ours(path), qemu, "cannot be saved live: `xl save` and `xl restore`, or a reboot")
            refused(store, ours(path), qemu, "domain 7: a save ended, or was killed, before its QEMU had answered")
            return
        save = told(store, ours(path))
        save.begin()
        assert qemu.fake.tracking and is_noted(store, ours(path)) == BEGUN
        save.end()
        assert not qemu.fake.tracking and not qemu.dead


@pytest.mark.parametrize("note", [ASKED, BEGUN])
@pytest.mark.parametrize("version", RELEASES)
def test_a_qemu_that_does_not_say_which_it_is_but_hears_later(
    tmp_path: Path, version: tuple[int, int], note: str
) -> None:
    """As behind libxl, which waits longer than we do."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        qemu.fake.tracking, model = True, Failing(path)
        noted(store, model).put(note)
        model.version_fails = "greeting"
        refused(store, model, qemu, "it does not greet")
        assert qemu.fake.tracking


def test_behind_libxl_the_version_is_asked_of_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path = Store(), tmp_path / "qmp"
    monkeypatch.setattr("pyxcsr.devicemodel.through_libxl.socket_path", lambda domid: str(path))
    monkeypatch.setattr("pyxcsr.devicemodel.qemu.socket_path", lambda domid: str(path))
    monkeypatch.setattr("pyxcsr.devicemodel.through_libxl.ASKED_FOR", 0.1)
    with listening(path, ENDS_OVER_BOTH) as qemu:

        def libxl(domid: int, on: bool) -> int:
            qemu.fake.greets = True  # it was busy with another client, who has gone
            ours(path).track(on)
            return 0

        model = ThroughLibxl(libxl, 7)
        told(store, model).begin()
        qemu.fake.greets = False
        refused(store, model, qemu, "busy with another client")
        assert is_noted(store, model) == BEGUN and qemu.fake.tracking


@pytest.mark.parametrize("note", [None, ASKED, BEGUN])
def test_xenstore_cannot_be_read(tmp_path: Path, note: Optional[str]) -> None:
    """Then it matters which release it is."""
    for at, version in enumerate(RELEASES):
        store, path = Store(), tmp_path / f"qmp{at}"
        with listening(path, version) as qemu:
            model = Failing(path)
            noted(store, model).put(note)
            qemu.fake.tracking, store.unreadable = note is not None, True
            model.version_fails = "greeting"
            refused(store, model, qemu, "it does not greet")
            model.version_fails = None
            if version == ENDS_OVER_BOTH:
                refused(store, model, qemu, "what is noted of its QEMU cannot be read .*; try again")
                refused(store, Nameless(7, str(path)), qemu, "cannot be read")
            else:
                told(store, model).begin()
                assert qemu.fake.tracking and not qemu.dead


@pytest.mark.parametrize("note", [ASKED, BEGUN])
def test_a_release_that_is_not_known_may_be_the_one(tmp_path: Path, note: str) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, ENDS_OVER_BOTH) as qemu:
        model, qemu.fake.tracking = Nameless(7, str(path)), True
        noted(store, model).put(note)
        if note == ASKED:
            refused(store, model, qemu, "cannot be saved live")
            assert end_left(model, noted(store, model)) is False and qemu.told == []
        else:
            told(store, model).begin()
            assert qemu.told == [False, True] and qemu.fake.tracking and not qemu.dead
            assert end_left(model, noted(store, model)) is True and not qemu.fake.tracking and not qemu.dead


def test_what_was_left_is_not_ended_for_certain(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, ENDS_OVER_BOTH) as qemu:
        told(store, ours(path)).begin()
        qemu.silent = True
        with pytest.raises(DeviceModelError):
            told(store, ours(path)).begin()
        assert qemu.told == [True, False] and is_noted(store, ours(path)) == ASKED
        qemu.silent = False
        refused(store, ours(path), qemu, "cannot be saved live")


@pytest.mark.parametrize("version", RELEASES)
def test_without_a_note_qemu_is_not_asked_which_it_is(tmp_path: Path, version: tuple[int, int]) -> None:
    """Two connections: to begin, and to stop."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        model = Failing(path)
        model.version_fails = "greeting"
        for _ in range(2):  # first there is no node, and then an empty one
            del qemu.fake.commands[:]
            save = told(store, model)
            save.begin()
            save.end()
            switch = "xen-set-global-dirty-log"
            assert [name for name, _ in qemu.fake.commands] == ["qmp_capabilities", switch] * 2


# -- commands that were not sent


@pytest.mark.parametrize("op", [*BEFORE, *LATE])
@pytest.mark.parametrize("note", [None, ASKED, BEGUN])
def test_a_save_that_could_not_tell_qemu_leaves_the_note_as_it_was(
    tmp_path: Path, op: str, note: Optional[str]
) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, NEW) as qemu:
        model, qemu.fake.tracking = Failing(path), note is not None
        noted(store, model).put(note)
        model.fails = op
        with pytest.raises(DeviceModelError, match="no"):
            told(store, model).begin()
        assert is_noted(store, model) == (note if op in BEFORE else ASKED)


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("how", ["greeting", "qmp_capabilities"])
def test_a_save_that_is_not_let_in_blocks_none(tmp_path: Path, version: tuple[int, int], how: str) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        qemu.fake.greets, qemu.shuts = how != "greeting", how == "qmp_capabilities"
        with pytest.raises(DeviceModelError) as failed:
            told(store, Qemu(7, str(path), 0.1 if how == "greeting" else 5.0)).begin()
        assert failed.value.op == how and is_noted(store, ours(path)) is None and qemu.told == []
        qemu.fake.greets, qemu.shuts = True, False
        assert end_left(ours(path), noted(store, ours(path))) is None
        save = told(store, ours(path))
        save.begin()
        save.end()
        assert qemu.told == [True, False] and not qemu.dead


@pytest.mark.parametrize("op", [*BEFORE, *LATE])
@pytest.mark.parametrize("spares", [None, True], ids=["both", "to-stop"])
@pytest.mark.parametrize("version", RELEASES)
def test_what_is_left_could_not_be_ended(
    tmp_path: Path, version: tuple[int, int], spares: Optional[bool], op: str
) -> None:
    store, path = Store(), tmp_path / "qmp"
    with listening(path, version) as qemu:
        model = Failing(path)
        told(store, model).begin()
        model.fails, model.spares = op, spares
        with pytest.raises(DeviceModelError, match="no"):
            end_left(model, noted(store, model))
        assert is_noted(store, model) == (BEGUN if op in BEFORE else ASKED)
        model.fails = None
        ended = end_left(model, noted(store, model))
        assert ended is (version != ENDS_OVER_BOTH or op in BEFORE)
        assert qemu.fake.tracking is not ended and not qemu.dead


def test_that_it_has_begun_for_recover_alone_is_noted_if_it_is_not_told_to_stop(tmp_path: Path) -> None:
    """What was found is that it was told something: after recover has had it begin, more is known."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, NEW):
        model = Failing(path)
        noted(store, model).put(ASKED)
        model.fails, model.spares = "connect", True
        with pytest.raises(DeviceModelError):
            end_left(model, noted(store, model))
        assert is_noted(store, model) == BEGUN


# -- notes that are not taken


@pytest.mark.parametrize("version", RELEASES)
def test_a_note_that_it_has_begun_is_not_left_with_a_qemu_that_has_stopped(
    tmp_path: Path, version: tuple[int, int]
) -> None:
    """If that may be the end of it."""
    store, path, warnings = Store(), tmp_path / "qmp", list[str]()
    with listening(path, version) as qemu:
        save = told(store, ours(path), warnings)
        save.begin()
        store.broken = True
        if version == ENDS_OVER_BOTH:
            for store.unreadable in False, True:
                with pytest.raises(DeviceModelError, match="domain 7: its QEMU is not told to stop"):
                    save.end()
            with pytest.raises(DeviceModelError, match="not told to stop"):
                store.unreadable = False
                end_left(ours(path), noted(store, ours(path)))
            refused(store, ours(path), qemu, "not told to stop")
            assert qemu.told == [True] and is_noted(store, ours(path)) == BEGUN and len(warnings) == 1
            store.broken = False
            save.end()
            assert is_noted(store, ours(path)) is None
        else:
            save.end()
            assert is_noted(store, ours(path)) == BEGUN
            store.broken = False
            assert end_left(ours(path), noted(store, ours(path))) is True
        assert not qemu.fake.tracking and not qemu.dead


def test_which_release_it_is_cannot_be_asked_when_it_is_to_stop(tmp_path: Path) -> None:
    """It is tried again."""
    store, path = Store(), tmp_path / "qmp"
    with listening(path, OLD) as qemu:
        model = Failing(path)
        save = told(store, model)
        save.begin()
        store.broken, model.version_fails = True, "greeting"
        with pytest.raises(DeviceModelError, match="does not greet"):
            save.end()
        assert qemu.told == [True]
        model.version_fails = None
        save.end()
        assert qemu.told == [True, False]
