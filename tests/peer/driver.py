"""One process with both savers on one stub machine: does what a JSON request says, answers in JSON.

``python -m peer.driver FOLDER`` with build.py's FOLDER reads the request from standard input. A process of its
own for each request because libxenguest may abort, and because only one libxenctrl fits into a process.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peer.build import MODULE, SONAME, find_libxenguest
from peer.libxenguest import Libxenguest


def load_module(folder: Path) -> None:
    """Makes build.py's module the one that pyxcsr takes for its stub."""
    spec = importlib.util.spec_from_file_location("pyxcsr._stub", folder / MODULE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyxcsr._stub"] = module
    spec.loader.exec_module(module)


class Driver:
    """A machine, and the savers and restorers on it."""

    def __init__(self, folder: Path, hv: Any, request: dict[str, Any]) -> None:
        libxenguest = find_libxenguest()
        assert libxenguest is not None
        self.hv, self.request = hv, request
        self.peer = Libxenguest(folder / SONAME, libxenguest)
        self.answer: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Does what was asked."""
        self.hv.stub.reset(**self.request.get("machine", {}))
        domid = getattr(self, f"_{self.request['do']}")()
        if self.answer["rc"] == 0:
            self._look(domid)
        self.answer["state"] = self._state(domid)
        self.hv.stub.destroy(domid)
        self.peer.close()
        self.answer["leaks"] = {**self.hv.stub.leaks(), **self._stray_mappings()}
        return self.answer

    def _look(self, domid: int) -> None:
        if "image" in self.request:
            Path(self.request["image"]).write_text(json.dumps(self._image(domid)))
        if self.request.get("judge"):
            self._judge(domid)
        if self.request.get("adopt"):
            self._adopt(domid)

    def _image(self, domid: int) -> dict[str, Any]:
        if self._hvm(domid):
            from support import hvm_truth

            return hvm_truth.image_of(self.hv, domid)
        from peer.image import image_of

        return image_of(self.hv, domid, self.request.get("leaves"))

    def _hvm(self, domid: int) -> bool:
        """PVH guests, too."""
        return bool(self.hv.stub.guest(domid).state().hvm)

    # -- saving

    def _save(self) -> int:
        from pyxcsr.hypervisor.stub.text import StubGuest

        domid: int = self.hv.stub.create(StubGuest.parse(self.request["guest"]))
        guest = self.hv.stub.guest(domid)
        for name, arguments in self.request.get("before", []):
            getattr(guest, name)(*(self._argument(guest, x) for x in arguments))
        self.hv.stub.clear_calls()
        with self._script(guest), open(self.request["stream"], "wb") as out:
            begin = time.perf_counter()
            getattr(self, f"_save_by_{self.request['by']}")(domid, out)
            self.answer["seconds"] = time.perf_counter() - begin
        self.answer["calls"] = self.hv.stub.calls()
        return domid

    def _save_by_libxenguest(self, domid: int, out: Any) -> None:
        passes: list[int] = []
        suspended = []
        sleeper = self._suspend(domid)
        model = self._device_model(domid)

        def suspend() -> bool:
            sleeper()
            suspended.append(time.perf_counter())
            return True

        def precopy(iteration: int, written: int, dirty: int) -> int:
            passes.append(dirty)
            return int(iteration >= 5 or 0 <= dirty < 50)

        live = self.request.get("live", True)
        rc, error = self.peer.save(
            out.fileno(),
            domid,
            live=live,
            suspend=suspend,
            precopy=precopy,
            device_model=model.track if model else None,
        )
        paused = time.perf_counter() - suspended[0] if suspended else None
        self.answer.update(rc=rc, errno=error, passes=passes, paused=paused)
        self._note_device_model(model)

    def _suspend(self, domid: int) -> Any:
        """As libxl does it for a guest of its type."""
        if self._hvm(domid):
            from support.hvm_guests import suspend_hvm

            return suspend_hvm(self.hv, domid)
        from pyxcsr.suspend.xenstore import XenstoreSuspend

        return XenstoreSuspend(self.hv, domid, timeout=60.0)

    def _device_model(self, domid: int) -> Any:
        """The one that is told to track what it writes; PVH guests have one that has nothing to do."""
        if not self._hvm(domid):
            return None
        from support.hvm_guests import ToldDeviceModel

        if self.request.get("deaf"):
            from pyxcsr.devicemodel.base import DeviceModel

            return DeviceModel()
        return ToldDeviceModel(self.hv.stub.guest(domid))

    def _note_device_model(self, model: Any) -> None:
        if hasattr(model, "told"):
            self.answer["told"] = model.told

    def _save_by_pyxcsr(self, domid: int, out: Any) -> None:
        import pyxcsr
        from pyxcsr.errors import XcsrError

        model, suspend, live = self._device_model(domid), self._suspend(domid), self.request.get("live", True)
        try:
            report = pyxcsr.save(self.hv, domid, out, live=live, suspend=suspend, device_model=model)
        except XcsrError as error:
            self.answer.update(rc=-1, error=str(error))
            return
        self.answer.update(rc=0, report=report.to_dict(), paused=report.seconds_paused)
        self._note_device_model(model)

    def _argument(self, guest: Any, value: Any) -> Any:
        """``"first L1TAB"`` is the first pfn of that type."""
        if not isinstance(value, str) or not value.startswith("first "):
            return value
        from pyxcsr.frames import PageType

        return guest.pfns_of_type(PageType[value.split()[1]])[0]

    def _time(self) -> int:
        """Both savers in turn, ``repeat`` times, on one guest that writes nothing, with one run before that counts
        for nothing; seconds of each: in all, paused, and of the processor."""
        from pyxcsr.hypervisor.stub.text import StubGuest

        domid: int = self.hv.stub.create(StubGuest.parse(self.request["guest"]))
        savers = ("libxenguest", "pyxcsr")
        times: dict[str, list[list[float]]] = {by: [] for by in savers}
        for turn in range(self.request["repeat"] + 1):
            for by in savers:
                with open(self.request["stream"], "wb") as out:
                    begin, cpu = time.perf_counter(), time.process_time()
                    getattr(self, f"_save_by_{by}")(domid, out)
                    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
                assert self.answer["rc"] == 0
                self.hv.domain_resume(domid)
                if turn:
                    times[by].append([seconds, self.answer["paused"], cpu])
        self.answer["times"] = times
        return domid

    @contextmanager
    def _script(self, guest: Any) -> Iterator[None]:
        """``hooks``: [function, count, method of the guest, its arguments]; ``fail``: [function, nth, errno]."""
        for function, nth, errno in self.request.get("fail", []):
            self.hv.stub.fail(function, nth=nth, errno=errno)
        hooks = self.request.get("hooks", [])

        def enter(function: str, count: int) -> None:
            for name, at, method, arguments in hooks:
                if function == name and count == at:
                    getattr(guest, method)(*arguments)

        with self.hv.stub.hook(enter if hooks else None):
            yield

    # -- by checkpoints (Remus)

    def _protect(self) -> int:
        """A save of so many ``checkpoints``, the guest running for ``interval`` seconds between two. Its image at each
        goes into ``images``, if that is given; of each but the first: pause and bytes."""
        from peer.protecting import Protecting
        from pyxcsr.hypervisor.stub.text import StubGuest

        domid: int = self.hv.stub.create(StubGuest.parse(self.request["guest"]))
        images: list[Any] = []
        take = (lambda: images.append(self._image(domid))) if "images" in self.request else None
        parts = self._suspend(domid), self._device_model(domid)
        with open(self.request["stream"], "wb") as out:
            protecting = Protecting(self.hv, domid, out, self.request["checkpoints"], self.request.get("interval", 0))
            done = protecting.by(self.request["by"], self.peer, *parts, take)
        self.answer.update(done)
        if take is not None:
            Path(self.request["images"]).write_text(json.dumps(images))
        return domid

    # -- restoring

    def _restore(self) -> int:
        domid = self._empty_domain()
        self.hv.stub.clear_calls()
        with open(self.request["stream"], "rb") as source:
            begin = time.perf_counter()
            getattr(self, f"_restore_by_{self.request['by']}")(domid, source)
            self.answer["seconds"] = time.perf_counter() - begin
            self.answer["left"] = os.fstat(source.fileno()).st_size - os.lseek(source.fileno(), 0, os.SEEK_CUR)
        self.answer["calls"] = self.hv.stub.calls()
        seed = self.hv.stub.guest(domid).grant_seed
        self.answer["seed"] = seed and dataclasses.asdict(seed)
        self.answer["policy"] = self.hv.stub.guest(domid).cpu_policy_given
        return domid

    def _empty_domain(self) -> int:
        nr_bytes = self.request["pages"] * 4096
        kind, vcpus = self.request.get("kind", "pv64"), self.request.get("vcpus", 1)
        domid: int = self.hv.stub.create_empty(nr_bytes, vcpus=vcpus, kind=kind)
        return domid

    def _restore_by_libxenguest(self, domid: int, source: Any) -> None:
        checkpointed = self.request.get("checkpointed", False)
        done = self.peer.restore(source.fileno(), domid, store_evtchn=1, console_evtchn=2, checkpointed=checkpointed)
        self.answer.update(done._asdict())

    def _restore_by_pyxcsr(self, domid: int, source: Any) -> None:
        import pyxcsr
        from pyxcsr.errors import XcsrError

        try:
            report = pyxcsr.restore(
                *(self.hv, domid, source),
                store_evtchn=1,
                console_evtchn=2,
                checkpointed=self.request.get("checkpointed", False),
            )
        except XcsrError as error:
            self.answer.update(rc=-1, error=str(error))
            return
        self.answer.update(rc=0, report=report.to_dict())
        self.answer.update(store_gfn=report.store_gfn, console_gfn=report.console_gfn)

    def _adopt(self, domid: int) -> None:
        """Starts the restored guest's kernel, which looks whether all is where it was; saves it once more."""
        self.hv.stub.guest(domid).adopt()
        self.hv.stub.guest(domid).tick(3)
        with open(self.request["adopt"], "wb") as out:
            getattr(self, f"_save_by_{self.request.get('again', 'pyxcsr')}")(domid, out)
        self.request["stream"] = self.request["adopt"]
        self._judge(domid)

    # -- judging

    def _judge(self, domid: int) -> None:
        """Every page and record of the stream against this guest, which must be suspended still."""
        from support.hvm_guests import judge_guest
        from support.judge import judge

        try:
            (judge_guest if self._hvm(domid) else judge)(self.hv, domid, self.request["stream"])
            self.answer["wrong"] = None
        except AssertionError as error:
            self.answer["wrong"] = str(error) or "a check failed"

    def _state(self, domid: int) -> dict[str, Any]:
        state = self.hv.stub.guest(domid).state()
        return {name: getattr(state, name) for name in ("running", "shutdown", "paused", "logdirty", "nr_pfns")}

    def _stray_mappings(self) -> dict[str, int]:
        """Mappings of the machine's memory that are not the machine's own: of those the stub cannot know."""
        lines = [x.split() for x in Path("/proc/self/maps").read_text().splitlines() if "/memfd:" in x]
        ranges = [[int(x, 16) for x in line[0].split("-")] for line in lines]
        stray = sum(end - begin for begin, end in ranges) // 4096 - self._own_pages()
        return {"stray_pages": stray} if stray else {}

    def _own_pages(self) -> int:
        """The window on all of the memory, both m2ps, and that of this open hypervisor."""
        frames = self.hv.stub.max_page
        m2p, compat = (-(-frames * word // (2 << 20)) * 512 for word in (8, 4))
        if not self.request.get("machine", {}).get("pv32", True):
            compat = 0
        mine = self.hv.stub.usage()["xen_mappings"]
        return int(frames + m2p + compat + m2p * mine)


def main() -> None:
    """The program."""
    folder = Path(sys.argv[1])
    load_module(folder)
    import pyxcsr

    with pyxcsr.open_hypervisor("stub") as hv:
        answer = Driver(folder, hv, json.load(sys.stdin)).run()
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
