"""A thousand saves of HVM and PVH guests that balloon meanwhile, by both savers, restored by both: who did it right?

``python -m peer.hvm_storm FOLDER FIRST LAST`` (FOLDER: build.py's) prints a line of JSON for each seed from FIRST up
to, not including, LAST.

``PYTHONPATH=tests python -m peer.hvm_storm --all N`` does N seeds and prints the table of docs/reliability.md.

A stream is wrong if the suspended guest has a page that is not in it, or not as it is. Pages in it that the guest had
given back are counted too, but for themselves: no memory is lost.
"""

from __future__ import annotations

from typing import Any

from support.hvm_kinds import NOT_TOLD_OF

from peer.seeds import BY, Seeds, ended, main

MAX_MEM = "32M"
APART = (*NOT_TOLD_OF, "pod stays")
"""Kinds of guests that are counted apart: what Xen does not show, and what is never ready to be saved."""
SECONDS_FOR_POD = 0.2
"""For a balloon driver that never ends: to wait longer shows nothing new."""


class HvmSeeds(Seeds):
    """HVM and PVH guests."""

    frames = 1 << 15

    def storm(self, seed: int) -> Any:
        from support.hvm_storm import HvmStorm

        return HvmStorm(self.hv, seed)

    def save_by_pyxcsr(self, storm: Any, out: Any) -> dict[str, Any]:
        from support.hvm_guests import suspend_hvm

        from pyxcsr.guest.hvm import pod
        from pyxcsr.hypervisor.stub.devmodel import device_model_of

        pod.SECONDS = SECONDS_FOR_POD if storm.kind == "pod stays" else 30.0
        suspend, model = suspend_hvm(self.hv, storm.domid), device_model_of(storm.guest)
        report = self.ours(storm, out, suspend=suspend, device_model=model)
        if isinstance(report, dict):
            return report
        warned = report.physmap.may_have_missed
        return {"rc": 0, "physmap": vars(report.physmap), "pages": report.pages, "warned": warned}

    def save_by_libxenguest(self, storm: Any, out: Any) -> dict[str, Any]:
        from support.hvm_guests import suspend_hvm

        import pyxcsr
        from pyxcsr.hypervisor.stub.devmodel import device_model_of

        model, sleeper = device_model_of(storm.guest), suspend_hvm(self.hv, storm.domid)

        def suspend() -> bool:
            try:
                sleeper()
            except pyxcsr.XcsrError:  # the guest has crashed: it ran out of memory for what is populated on demand
                return False
            return True

        def track(on: bool) -> None:
            if model is not None:
                model.track(on)

        def precopy(*stats: int) -> int:
            return self.precopy(storm, *stats)

        return ended(
            *self.peer.save(
                out.fileno(), storm.domid, live=storm.live, suspend=suspend, precopy=precopy, device_model=track
            )
        )

    def wrong(self, storm: Any) -> Any:
        from support.hvm_truth import wrong

        found = wrong(storm.guest, self.stream)
        storm.done["in the stream, given back"] = len(found.given_back)
        return str(found) if found.lost else None

    def restored(self, storm: Any) -> dict[str, Any]:
        from support.hvm_truth import image_of

        saved = image_of(self.hv, storm.domid)
        result: dict[str, Any] = {}
        for by in BY:
            new = self.hv.stub.create_empty(MAX_MEM, vcpus=storm.guest_vcpus, kind=storm.type)
            with open(self.stream, "rb") as source:
                problem = self.restore(new, source, by)
            result[by] = problem or self._different(saved, new) or self._adopted(new)
            self.hv.stub.destroy(new)
        return result

    def _different(self, saved: Any, domid: int) -> Any:
        from support.hvm_truth import differences, image_of

        other, _ = differences(saved, image_of(self.hv, domid))
        return "; ".join(other[:3]) or None

    def _adopted(self, domid: int) -> Any:
        """Whether the kernel finds itself again."""
        from pyxcsr.hypervisor.stub.panel import StubError

        try:
            self.hv.stub.guest(domid).adopt()
        except StubError as error:
            return str(error)
        return None


if __name__ == "__main__":
    main("peer.hvm_storm", HvmSeeds, APART)
