"""Whether xl's configuration fits the libxc stream that it stands with: what one says of the other is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from pyxcsr.frames import PAGE_SIZE
from pyxcsr.stream.rules.complaints import Complaints
from pyxcsr.stream.rules.verify import VerifyReport

KIB_PER_PAGE = PAGE_SIZE // 1024
EXTRA_KIB = 1024
"""What libxl lets a domain have beyond its memory target (LIBXL_MAXMEM_CONSTANT)."""


class FitRules:
    """Compares a configuration, where there is one, with what was found in the libxc stream."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints

    def check(self, offset: int, record: str, guest: Mapping[str, Any], report: VerifyReport) -> None:
        """``guest``: a configuration's summary. Complaints are about ``record``, the configuration, at ``offset``."""
        self._offset, self._record = offset, record
        if report.memory_checked:
            self._check_memory(report.populated, guest.get("max_memory_kib"), guest.get("memory_kib"))
        vcpus = guest.get("vcpus")
        if vcpus is not None and report.vcpu_end > vcpus:
            text = f"the configuration has {vcpus} vcpus, but the libxc stream has state of vcpu {report.vcpu_end - 1}"
            self._complain("xl-config-vcpus", text)

    def _check_memory(self, pages: int, most: Optional[int], target: Optional[int]) -> None:
        """``pages`` that a receiver allocates, and the configuration's memory in KiB."""
        sizes = [size for size in (most, target) if size is not None]
        needed = pages * KIB_PER_PAGE
        holds = f"but the libxc stream holds {pages} pages, which are {needed} KiB"
        if sizes and needed > max(sizes) + EXTRA_KIB:
            self._complain("xl-config-memory", f"the configuration's memory is {max(sizes)} KiB at most, {holds}")
        elif target is not None and needed > target + EXTRA_KIB:
            text = f"the memory target is {target} KiB, {holds}: libxl lets it have only {EXTRA_KIB} KiB more"
            self._complain("xl-config-memory", text, note=True)

    def _complain(self, rule: str, text: str, *, note: bool = False) -> None:
        self._complaints.add(rule, text, offset=self._offset, record=self._record, note=note)
