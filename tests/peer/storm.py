"""A thousand saves of guests that change their p2m meanwhile, by both savers, restored by both: who did it right?

``python -m peer.storm FOLDER FIRST LAST`` (FOLDER: build.py's) prints a line of JSON for each seed from FIRST up to,
not including, LAST.

``PYTHONPATH=tests python -m peer.storm --all N`` does N seeds and prints the table of docs/p2m-changes.md. With
``--guest pv32`` as the first words the guests are 32-bit ones.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from peer.seeds import BY, Seeds, ended, main

GUEST = "PEER_STORM_GUEST"


class PvSeeds(Seeds):
    """PV guests, of the kind that the environment says."""

    def storm(self, seed: int) -> Any:
        from support.storm import Storm

        return Storm(self.hv, seed, os.environ.get(GUEST, "pv64"))

    def save_by_pyxcsr(self, storm: Any, out: Any) -> dict[str, Any]:
        import pyxcsr

        limits = pyxcsr.P2mLimits(settle_seconds=0.05)
        report = self.ours(storm, out, cancel=storm.polled, p2m_changes="follow", p2m_limits=limits)
        if isinstance(report, dict):
            return report
        p2m = {k: v for k, v in vars(report.p2m).items() if k != "changes"}
        return {"rc": 0, "p2m": p2m, "pages": report.pages}

    def save_by_libxenguest(self, storm: Any, out: Any) -> dict[str, Any]:
        from pyxcsr.suspend.xenstore import XenstoreSuspend

        def suspend() -> bool:
            XenstoreSuspend(self.hv, storm.domid, timeout=60.0)()
            return True

        def precopy(*stats: int) -> int:
            return self.precopy(storm, *stats)

        return ended(*self.peer.save(out.fileno(), storm.domid, live=storm.live, suspend=suspend, precopy=precopy))

    def wrong(self, storm: Any) -> Any:
        from support.judge import judge_pages

        try:
            judge_pages(self.hv, storm.domid, self.stream)
        except AssertionError as error:
            return str(error)[:200] or "a check failed"
        return None

    def restored(self, storm: Any) -> dict[str, Any]:
        from support.storm import MAX_MEM

        from peer.image import differences, image_of

        saved = image_of(self.hv, storm.domid)
        result: dict[str, Any] = {}
        for by in BY:
            new = self.hv.stub.create_empty(MAX_MEM, vcpus=storm.guest_vcpus)
            with open(self.stream, "rb") as source:
                problem = self.restore(new, source, by)
            if problem is None:
                other = differences(saved, image_of(self.hv, new, saved["leaves"]))
                problem = "; ".join(self._meant(other, by)[:3]) or None
            result[by] = problem
            self.hv.stub.destroy(new)
        return result

    def _meant(self, other: list[str], by: str) -> list[str]:
        """libxenguest leaves pages that were ballooned out in the domain, and in its p2m."""
        if by == "pyxcsr":
            return other
        kept = [x for x in other if ("was None, is" in x) or x == "p2m differs"]
        return [x for x in other if x not in kept or (x == "p2m differs" and len(kept) == 1)]


if __name__ == "__main__":
    if sys.argv[1] == "--guest":  # for the children, too
        os.environ[GUEST] = sys.argv[2]
        del sys.argv[1:3]
    main("peer.storm", PvSeeds, ("never settles",))
