"""The end of a save as C has it: a plan put into its structures, and its result taken out."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor.interface.ending import EndResult
from pyxcsr.hypervisor.memory import Mapping
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pyxcsr.hypervisor.core import Core
    from pyxcsr.hypervisor.interface import BatchResult, EndPlan, SweepResult


class Plan:
    """A plan for C, and all that it points at: it must live as long as C may look at it."""

    def __init__(self, backend: Core, plan: EndPlan) -> None:
        ffi = backend._ffi
        shared, tables, gfns = plan.shared_info, backend._frames(plan.tables), backend._frames(plan.gfns)
        words = ffi.new("xcsr_word[]", [(offset, size, value) for offset, size, value in plan.words])
        params = ffi.new("xcsr_param[]", [(index, 0, value) for index, value in plan.params])
        before, last = ffi.from_buffer("char[]", plan.before), ffi.from_buffer("char[]", plan.last)
        made = self.cdata = ffi.new("xcsr_end_plan *")
        if shared is not None:
            if not isinstance(shared, Mapping) or shared._backend is not backend:
                raise UsageError("these frames belong to another hypervisor handle")
            made.shared_info = shared._live()
        made.words, made.nr_words, made.nr_kept = words, len(plan.words), plan.nr_kept
        made.tables, made.nr_tables, made.max_vcpu = tables, len(plan.tables), plan.max_vcpu
        made.params, made.nr_params = params, len(plan.params)
        made.gfns, made.nr_gfns, made.has_pm_timer = gfns, len(plan.gfns), plan.has_pm_timer
        made.tot_pages, made.max_pages = plan.tot_pages, plan.max_pages
        made.before, made.before_len = before, len(plan.before)
        made.last, made.last_len, made.room = last, len(plan.last), plan.room
        self._kept = (plan, tables, gfns, words, params, before, last)


def end_result(out: Any, sweep: SweepResult, batches: BatchResult) -> EndResult:
    """What C says of the end."""
    return EndResult(
        out.reached,
        out.marked,
        sweep,
        batches,
        out.complete_at,
        out.began_us / 1e6,
        out.fetch_us / 1e6,
        out.sweep_us / 1e6,
        out.pass_us / 1e6,
        out.held_us / 1e6,
    )
