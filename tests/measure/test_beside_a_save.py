"""A save that begins while a guest is measured, at each point between two calls of the measurement's.

The save is libxenguest's: it finds log-dirty mode on, ends it and begins it anew, and believes what Xen says. Either it
learns of the page that is written while it runs, or it ends with an error. It must never be wrong and look right.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Optional

import pytest
from support.ordinary import ordinary_pages

import pyxcsr
from pyxcsr.devicemodel.base import DeviceModel
from pyxcsr.errors import BeingSaved, HypervisorError, LogDirtyUnsupported
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.measure.tracking import Ended, Tracking
from pyxcsr.transfer.releasing import ended_by
from pyxcsr.transfer.savers import Saver, Savers

Plan = dict[int, list[Callable[[], None]]]
STOCK = Saver(4711, "libxl-save-helper", True)
ENDLESS = 1000


class Model(DeviceModel):
    """A device model that writes to a page, and marks it dirty only if it was told to."""

    told = False

    def track(self, on: bool) -> None:
        self.told = on


class Stock(Savers):
    """libxenguest's live save in another process, on a handle of its own; and what looks for such processes."""

    def __init__(self, hv: StubBackend, domid: int, nr_pfns: int, model: Model) -> None:
        super().__init__(domid)
        self._hv, self._id, self._model = hv, domid, model
        self._meter = hv.new_meter(domid, nr_pfns)
        self.there = self.begun = self.finished = self.told_to_end = self.failed = False
        self.seen: list[int] = []

    def start(self) -> None:
        self.there = True

    def begin(self) -> None:
        """All pages are sent directly afterwards: what is written from then on must be in its bitmaps."""
        if self.told_to_end:
            return
        self.there = self.begun = True
        self._model.track(True)
        try:
            self._meter.begin()
        except LogDirtyUnsupported:
            self._hv.logdirty_off(self._id)
            try:
                self._meter.begin()
            except LogDirtyUnsupported:
                self.failed = True

    def clean(self) -> None:
        """The last bitmap: it does not ask whether log-dirty mode is on, and Xen does not say."""
        if not self.begun or self.told_to_end or self.failed:
            return
        try:
            self._meter.fetch()
            self.seen = self._meter.spread(0, 64)
        except HypervisorError as error:
            assert error.errno == errno.ENODATA
            self.was_ended()
        self.finished = True

    def was_ended(self) -> None:
        """It has not noticed it. To ask has begun log-dirty mode anew."""
        self._hv.logdirty_off(self._id)

    def close(self) -> None:
        self._model.track(False)
        self._meter.close()

    # -- what the measurement sees of it

    def now(self) -> list[Saver]:
        return [STOCK] if self.there and not self.told_to_end else []

    def may_have_begun(self, saver: Saver) -> bool:
        return self.begun

    def end(self, saver: Saver) -> bool:
        assert saver == STOCK and self.there
        self.told_to_end = True
        return True


class Ours(Stock):
    """A save by this package in another thread of this process, which notices that log-dirty mode has been ended."""

    def was_ended(self) -> None:
        self.failed = True

    def now(self) -> list[Saver]:
        return [Saver(os.getpid(), "toolstack.py", None)] if self.there else []

    def end(self, saver: Saver) -> bool:
        raise AssertionError("a signal to itself")


class Between:
    """Something that a measurement calls, and what happens before each of these calls."""

    def __init__(self, inner: Any, before: Callable[[], None]) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("may_have_begun", "leave"):  # neither is a call of Xen's, nor does it look who is there
            return found

        def call(*args: Any) -> Any:
            self._before()
            return found(*args)

        return call


class Scene:
    """One guest, measured time and again; in each round a save comes, at other points."""

    def __init__(self, hv: StubBackend, other: StubBackend) -> None:
        self.hv, self.other = hv, other
        self.domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="4M", writer="none"))
        self.guest = hv.stub.guest(self.domid)
        self.nr_pfns = hv.nr_gpfns(self.domid)
        self.pfn = ordinary_pages(self.guest)[-1]
        self.points = 0

    def round(
        self,
        plan: Callable[[Stock, Model], Plan],
        take_over: bool,
        kind: type[Tracking] = Tracking,
        save: type[Stock] = Stock,
    ) -> Stock:
        """Measures two periods. ``plan``: what happens before which call."""
        model, self.points = Model(), 0
        stock = save(self.other, self.domid, self.nr_pfns, model)
        planned = plan(stock, model)

        def before() -> None:
            for action in planned.pop(self.points, ()):
                action()
            self.points += 1

        if take_over:
            self.hv.new_save(self.domid, self.nr_pfns, None).logdirty_enable()  # of one who was killed
        meter = self.hv.new_meter(self.domid, self.nr_pfns)
        all_of_it: list[Any] = [Between(x, before) for x in (self.hv, meter, model, stock)]
        tracking = kind(all_of_it[0], self.domid, *all_of_it[1:], [])
        expected = suppress(BeingSaved, LogDirtyUnsupported, Ended)
        with expected, ended_by((tracking.end_model, tracking.end_logdirty), []):
            tracking.begin(take_over)
            for _ in range(2):
                tracking.clean()
                tracking.peek()
        for at in sorted(planned):
            for action in planned[at]:
                action()
        meter.close()
        self._check_the_end(stock, model, tracking)
        stock.close()
        self.hv.logdirty_off(self.domid)
        return stock

    def _check_the_end(self, stock: Stock, model: Model, tracking: Tracking) -> None:
        if not stock.begun or isinstance(stock, Ours):
            return
        if not stock.told_to_end and not stock.failed and not stock.finished:
            assert self.guest.state().logdirty and model.told

    def write(self, model: Optional[Model] = None) -> None:
        """The guest writes to the page, or its device model does."""
        if model is None or model.told:
            self.guest.write_page(self.pfn, b"written while it is saved")

    def is_wrong(self, stock: Stock) -> bool:
        """Whether the save looks right and lacks the page."""
        loud = stock.told_to_end or stock.failed or not stock.finished
        return not loud and not (stock.seen and stock.seen[self.pfn // 64])


@pytest.fixture
def scene(hv: StubBackend) -> Iterator[Scene]:
    other = pyxcsr.open_hypervisor("stub")
    assert isinstance(other, StubBackend)
    with other:
        yield Scene(hv, other)


def plans(points: int) -> Iterator[tuple[int, int, int, int]]:
    """When the save's process is there, when it begins, when the page is written, when it fetches the last bitmap."""
    for begin in range(points + 1):
        for there in {begin, max(0, begin - 2)}:
            for write in range(begin, points + 1):
                for clean in range(write, points + 1):
                    yield there, begin, write, clean


def wrong(
    scene: Scene, take_over: bool, by_model: bool, kind: type[Tracking] = Tracking, save: type[Stock] = Stock
) -> list[tuple[int, ...]]:
    """The rounds in which the save was wrong and looked right."""
    scene.round(lambda *_: {}, take_over, save=save)
    assert not scene.guest.state().logdirty and scene.points >= 14
    found = []
    for times in plans(scene.points):

        def plan(stock: Stock, model: Model, times: tuple[int, ...] = times) -> Plan:
            actions = (stock.start, stock.begin, lambda: scene.write(model if by_model else None), stock.clean)
            planned: Plan = {}
            for at, action in zip(times, actions):
                planned.setdefault(at, []).append(action)
            return planned

        if scene.is_wrong(scene.round(plan, take_over, kind, save)):
            found.append(times)
    return found


@pytest.mark.parametrize("by_model", [False, True], ids=["guest", "device-model"])
@pytest.mark.parametrize("take_over", [False, True], ids=["first", "taken-over"])
def test_a_save_is_right_or_fails(scene: Scene, take_over: bool, by_model: bool) -> None:
    assert wrong(scene, take_over, by_model) == []


@pytest.mark.parametrize("take_over", [False, True], ids=["first", "taken-over"])
def test_a_save_in_the_same_process(scene: Scene, take_over: bool) -> None:
    """It is made to fail by ending log-dirty mode, unless all of it happens between one call and the next but one."""
    found = wrong(scene, take_over, False, save=Ours)
    assert [x for x in found if x[3] - x[1] > 2] == [], found


class Blind(Tracking):
    """Does not look before it clears the bitmap, or ends log-dirty mode."""

    def _users(self) -> list[Saver]:
        return []


class Mild(Tracking):
    """Looks, but does not end a save that may have lost pages."""

    def _end_harmed(self, came: Any) -> None:
        pass


@pytest.mark.parametrize("kind", [Blind, Mild])
def test_without_the_guard_it_would_be_wrong(scene: Scene, kind: type[Tracking]) -> None:
    """So this file's tests can fail."""
    assert wrong(scene, False, False, kind)


def test_a_save_that_came_in_time_is_left_in_peace(scene: Scene) -> None:
    """It began between two bitmaps, or has not called Xen yet: it is not ended, and has log-dirty mode for itself."""
    for at in range(2, 14):

        def plan(stock: Stock, model: Model, at: int = at) -> Plan:
            return {at: [stock.start], ENDLESS: [stock.begin, scene.write, stock.clean]}

        stock = scene.round(plan, False)
        assert not stock.told_to_end and not scene.is_wrong(stock) and stock.finished
