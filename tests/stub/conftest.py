"""A module with the stub alone, without the project's core, so that its own functions can be called."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.shared import built_once

from pyxcsr.hypervisor.stub.domain import StubDomain
from pyxcsr.hypervisor.stub.machine import Stub
from pyxcsr.hypervisor.stub.text import StubGuest

ROOT = Path(__file__).resolve().parents[2]
PROBE = "_stub_probe"

LIBRARIES = """
typedef unsigned long xen_pfn_t;
typedef struct xc_interface_core xc_interface;
typedef struct xenforeignmemory_handle xenforeignmemory_handle;
typedef struct xc_cpu_policy xc_cpu_policy_t;
struct xs_handle;
typedef struct { void *hbuf; ...; } xc_hypercall_buffer_t;
typedef struct { uint16_t domain; uint32_t flags; uint64_t tot_pages, max_pages, shared_info_frame;
                 uint32_t nr_online_vcpus, max_vcpu_id; ...; } xc_domaininfo_t;
typedef struct { uint32_t fault_count, dirty_count; ...; } xc_shadow_op_stats_t;
typedef struct { uint8_t online, running; ...; } xc_vcpuinfo_t;
typedef struct { uint32_t leaf, subleaf, a, b, c, d; } xen_cpuid_leaf_t;
typedef struct { uint32_t idx, flags; uint64_t val; } xen_msr_entry_t;
typedef struct { ...; } vcpu_guest_context_any_t;
struct cpu_user_regs { uint64_t rax, rdx, rip, rsp, rflags; ...; };
typedef struct { uint64_t address; ...; } trap_info_t;
typedef struct { unsigned long flags; struct cpu_user_regs user_regs; trap_info_t trap_ctxt[256];
                 unsigned long ldt_base, ldt_ents, gdt_frames[16], gdt_ents, ctrlreg[8], kernel_sp;
                 uint64_t fs_base, gs_base_kernel; ...; } vcpu_guest_context_t;

xc_interface *probe_open(void);
const char *probe_message(void);
int probe_domctl(xc_interface *xch, uint32_t cmd, uint32_t domid, uint32_t vcpu, void *buffer, uint64_t *size,
                 uint64_t *mask);
int probe_mmuext(xc_interface *xch, uint32_t domid, unsigned nr, const uint32_t *cmds, const uint64_t *mfns);

int xc_domain_decrease_reservation_exact(xc_interface *xch, uint32_t domid, unsigned long nr, unsigned order,
                                         xen_pfn_t *extents);
int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t domid, unsigned long nr, unsigned order,
                                     unsigned flags, xen_pfn_t *extents);
int xc_domain_decrease_reservation(xc_interface *xch, uint32_t domid, unsigned long nr, unsigned order,
                                   xen_pfn_t *extents);
int xc_domain_populate_physmap(xc_interface *xch, uint32_t domid, unsigned long nr, unsigned order, unsigned flags,
                               xen_pfn_t *extents);
int xc_domain_get_pod_target(xc_interface *xch, uint32_t domid, uint64_t *tot, uint64_t *cached, uint64_t *entries);
int xc_domain_set_pod_target(xc_interface *xch, uint32_t domid, uint64_t target, uint64_t *tot, uint64_t *cached,
                             uint64_t *entries);
int xc_domain_maximum_gpfn(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns);
int xc_hvm_param_get(xc_interface *xch, uint32_t domid, uint32_t param, uint64_t *value);
int xc_hvm_param_set(xc_interface *xch, uint32_t domid, uint32_t param, uint64_t value);
int xc_domain_hvm_getcontext(xc_interface *xch, uint32_t domid, uint8_t *buffer, uint32_t size);
int xc_domain_hvm_setcontext(xc_interface *xch, uint32_t domid, uint8_t *buffer, uint32_t size);
char **xs_directory(struct xs_handle *h, uint32_t t, const char *path, unsigned int *num);
int xc_vcpu_setcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu, vcpu_guest_context_any_t *ctxt);
int xc_domain_set_tsc_info(xc_interface *xch, uint32_t domid, uint32_t mode, uint64_t nsec, uint32_t khz,
                           uint32_t incarnation);
int xc_set_domain_cpu_policy(xc_interface *xch, uint32_t domid, uint32_t nr_leaves, xen_cpuid_leaf_t *leaves,
                             uint32_t nr_msrs, xen_msr_entry_t *msrs, uint32_t *leaf, uint32_t *subleaf,
                             uint32_t *msr);
int xc_dom_gnttab_seed(xc_interface *xch, uint32_t domid, bool is_hvm, xen_pfn_t console_gfn, xen_pfn_t store_gfn,
                       uint32_t console_domid, uint32_t store_domid);
struct xen_domctl_sched_credit { uint16_t weight, cap; };
struct xen_domctl_sched_credit2 { uint16_t weight, cap; };
int xc_sched_id(xc_interface *xch, int *id);
int xc_sched_credit_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit *sdom);
int xc_sched_credit_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit *sdom);
int xc_sched_credit2_domain_set(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *sdom);
int xc_sched_credit2_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *sdom);
int xc_interface_close(xc_interface *xch);
int xc_version(xc_interface *xch, int cmd, void *arg);
int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int max, xc_domaininfo_t *info);
int xc_domain_get_guest_width(xc_interface *xch, uint32_t domid, unsigned int *width);
int xc_domain_nr_gpfns(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns);
int xc_domain_get_tsc_info(xc_interface *xch, uint32_t domid, uint32_t *mode, uint64_t *nsec, uint32_t *khz,
                           uint32_t *incarnation);
int xc_domain_pause(xc_interface *xch, uint32_t domid);
int xc_domain_unpause(xc_interface *xch, uint32_t domid);
int xc_domain_resume(xc_interface *xch, uint32_t domid, int fast);
int xc_domain_destroy(xc_interface *xch, uint32_t domid);
int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason);
int xc_maximum_ram_page(xc_interface *xch, unsigned long *max_mfn);
int xc_machphys_mfn_list(xc_interface *xch, unsigned long max, xen_pfn_t *list);
int probe_compat_m2p(xc_interface *xch, unsigned max, xen_pfn_t *list);
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t domid, unsigned num, xen_pfn_t *arr);
int xc_shadow_control(xc_interface *xch, uint32_t domid, unsigned op, unsigned *mb, unsigned mode);
long long xc_logdirty_control(xc_interface *xch, uint32_t domid, unsigned int op, xc_hypercall_buffer_t *b,
                              unsigned long pages, unsigned int mode, xc_shadow_op_stats_t *stats);
int xc_vcpu_getinfo(xc_interface *xch, uint32_t domid, uint32_t vcpu, xc_vcpuinfo_t *info);
int xc_vcpu_getcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu, vcpu_guest_context_any_t *ctxt);
xc_cpu_policy_t *xc_cpu_policy_init(void);
void xc_cpu_policy_destroy(xc_cpu_policy_t *policy);
int xc_cpu_policy_get_size(xc_interface *xch, uint32_t *leaves, uint32_t *msrs);
int xc_cpu_policy_get_domain(xc_interface *xch, uint32_t domid, xc_cpu_policy_t *policy);
int xc_cpu_policy_serialise(xc_interface *xch, const xc_cpu_policy_t *policy, xen_cpuid_leaf_t *leaves,
                            uint32_t *nr_leaves, xen_msr_entry_t *msrs, uint32_t *nr_msrs);
void *xc__hypercall_buffer_alloc(xc_interface *xch, xc_hypercall_buffer_t *b, size_t size);
void xc__hypercall_buffer_free(xc_interface *xch, xc_hypercall_buffer_t *b);
void *xc__hypercall_buffer_alloc_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr);
void xc__hypercall_buffer_free_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr);
xenforeignmemory_handle *xenforeignmemory_open(void *logger, unsigned flags);
int xenforeignmemory_close(xenforeignmemory_handle *fmem);
void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages,
                           const xen_pfn_t *arr, int *err);
int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages);
struct xs_handle *xs_open(unsigned long flags);
void xs_close(struct xs_handle *h);
void *xs_read(struct xs_handle *h, uint32_t t, const char *path, unsigned int *len);
bool xs_write(struct xs_handle *h, uint32_t t, const char *path, const void *data, unsigned int len);
uint32_t xs_transaction_start(struct xs_handle *h);
bool xs_transaction_end(struct xs_handle *h, uint32_t t, bool abort);
bool xs_resume_domain(struct xs_handle *h, unsigned int domid);
void free(void *p);
"""

HELPERS = r"""
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>
#include <xenguest.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include "stub/panel/stub_api.h"

int xc_get_pfn_type_batch(xc_interface *xch, uint32_t domid, unsigned num, xen_pfn_t *arr);

static char last_message[256];

static void keep(xentoollog_logger *l, xentoollog_level level, int e, const char *c, const char *f,
                 va_list al)
{
    (void)l; (void)level; (void)e; (void)c;
    vsnprintf(last_message, sizeof(last_message), f, al);
}

static xentoollog_logger logger = { .vmessage = keep };

static xc_interface *probe_open(void)
{
    last_message[0] = 0;
    return xc_interface_open(&logger, &logger, 0);
}

static const char *probe_message(void)
{
    return last_message;
}

static int probe_mmuext(xc_interface *xch, uint32_t domid, unsigned nr, const uint32_t *cmds,
                        const uint64_t *mfns)
{
    struct mmuext_op *ops = calloc(nr + 1, sizeof(*ops));
    int rc, kept;

    for (unsigned i = 0; i < nr; i++) {
        ops[i].cmd = cmds[i];
        ops[i].arg1.mfn = mfns[i];
    }
    rc = xc_mmuext_op(xch, ops, nr, domid);
    kept = errno;
    free(ops);
    errno = kept;
    return rc;
}

/* Where the 32-bit m2p lies: how many chunks were told. */
static int probe_compat_m2p(xc_interface *xch, unsigned max, xen_pfn_t *list)
{
    struct xen_machphys_mfn_list where = { .max_extents = max };
    long rc;

    where.extent_start.p = list; /* no hypercall buffer */
    rc = xc_memory_op(xch, XENMEM_machphys_compat_mfn_list, &where, sizeof(where));
    return rc ? -1 : (int)where.nr_extents;
}

/* size: in and out; buffer NULL asks for the size. What is read is copied out of a hypercall buffer. */
static int probe_domctl(xc_interface *xch, uint32_t cmd, uint32_t domid, uint32_t vcpu, void *buffer,
                        uint64_t *size, uint64_t *mask)
{
    struct xen_domctl op;
    DECLARE_HYPERCALL_BUFFER(uint64_t, room);
    DECLARE_HYPERCALL_BUFFER(xen_domctl_vcpu_msr_t, msrs);
    int rc;

    memset(&op, 0, sizeof(op));
    op.cmd = cmd;
    op.domain = (domid_t)domid;
    room = xc_hypercall_buffer_alloc(xch, room, 65536);
    msrs = xc_hypercall_buffer_alloc(xch, msrs, 65536);
    if (cmd == XEN_DOMCTL_getvcpuextstate) {
        op.u.vcpuextstate.vcpu = vcpu;
        op.u.vcpuextstate.size = *size;
        op.u.vcpuextstate.xfeature_mask = *mask;
        if (buffer)
            set_xen_guest_handle(op.u.vcpuextstate.buffer, room);
    } else if (cmd == XEN_DOMCTL_get_vcpu_msrs) {
        op.u.vcpu_msrs.vcpu = vcpu;
        op.u.vcpu_msrs.msr_count = (uint32_t)*size;
        if (buffer)
            set_xen_guest_handle(op.u.vcpu_msrs.msrs, msrs);
    } else if (cmd == XEN_DOMCTL_setvcpuextstate) {
        op.u.vcpuextstate.vcpu = vcpu;
        op.u.vcpuextstate.size = *size;
        memcpy(room, buffer, *size);
        set_xen_guest_handle(op.u.vcpuextstate.buffer, room);
    } else if (cmd == XEN_DOMCTL_set_vcpu_msrs) {
        op.u.vcpu_msrs.vcpu = vcpu;
        op.u.vcpu_msrs.msr_count = (uint32_t)*size;
        memcpy(msrs, buffer, *size * sizeof(*msrs));
        set_xen_guest_handle(op.u.vcpu_msrs.msrs, msrs);
    } else if (cmd == XEN_DOMCTL_set_address_size || cmd == XEN_DOMCTL_get_address_size) {
        op.u.address_size.size = (uint32_t)*size;
    } else if (cmd == XEN_DOMCTL_set_ext_vcpucontext) {
        memcpy(&op.u.ext_vcpucontext, buffer, sizeof(op.u.ext_vcpucontext));
        op.u.ext_vcpucontext.vcpu = vcpu;
        op.u.ext_vcpucontext.size = (uint32_t)*size;
    } else {
        op.u.ext_vcpucontext.vcpu = vcpu;
    }
    rc = xc_domctl(xch, &op);
    if (cmd == XEN_DOMCTL_getvcpuextstate) {
        *size = op.u.vcpuextstate.size;
        *mask = op.u.vcpuextstate.xfeature_mask;
        if (buffer && !rc)
            memcpy(buffer, room, *size);
    } else if (cmd == XEN_DOMCTL_get_vcpu_msrs) {
        *size = op.u.vcpu_msrs.msr_count;
        if (buffer && !rc)
            memcpy(buffer, msrs, *size * sizeof(*msrs));
    } else if (cmd == XEN_DOMCTL_get_address_size) {
        *size = op.u.address_size.size;
    } else if (cmd == XEN_DOMCTL_set_vcpu_msrs) {
        *size = op.u.vcpu_msrs.msr_count;
    } else if (cmd == XEN_DOMCTL_get_ext_vcpucontext) {
        *size = op.u.ext_vcpucontext.size;
        if (buffer && !rc)
            memcpy(buffer, &op.u.ext_vcpucontext, sizeof(op.u.ext_vcpucontext));
    }
    int kept = errno;
    xc_hypercall_buffer_free(xch, room);
    xc_hypercall_buffer_free(xch, msrs);
    errno = kept;
    return rc;
}
"""


def have_real_headers() -> bool:
    """True where libxen-dev (or another distribution's) is installed."""
    command = [os.environ.get("CC", "cc"), "-E", "-x", "c", "-"]
    run = subprocess.run(command, input=b"#include <xenctrl.h>\n", capture_output=True, check=False)
    return run.returncode == 0


def real_headers() -> bool:
    """Whether C of the tests is compiled against Xen's own headers."""
    return have_real_headers() and os.environ.get("PYXCSR_ABI_HEADERS") != "1"


def declarations(header: Path) -> str:
    return "\n".join(x for x in header.read_text().splitlines() if not x.startswith("#"))


def build_probe(folder: Path) -> None:
    """Compiles it into ``folder``."""
    ffi = pytest.importorskip("cffi").FFI()
    for header in ("machine/described.h", "kernel/described.h", "panel/stub_api.h"):
        ffi.cdef(declarations(ROOT / "csrc/stub" / header))
    ffi.cdef((ROOT / "csrc/stub/panel/stub_callback.cdef").read_text())
    ffi.cdef(LIBRARIES)
    ffi.set_source(
        PROBE, HELPERS, sources=sorted(str(x) for x in (ROOT / "csrc/stub").rglob("*.c")),
        include_dirs=[str(ROOT / "csrc"), *([] if real_headers() else [str(ROOT / "csrc/abi")])],
        define_macros=[("_GNU_SOURCE", "1")],
        extra_compile_args=["-std=gnu11", "-O1", "-fvisibility=hidden", "-Werror=incompatible-pointer-types"],
        libraries=["pthread"],
    )
    ffi.compile(tmpdir=str(folder))


@pytest.fixture(scope="session")
def probe_module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled module; its ``lib`` has the libraries' functions and the control panel."""
    folder = built_once(tmp_path_factory, "probe", build_probe)
    (built,) = folder.glob(f"{PROBE}.*.so")
    spec = importlib.util.spec_from_file_location(PROBE, built)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Probe:
    """Open handles on the stub, and short names for what the tests do with them."""

    def __init__(self, module: Any) -> None:
        self.ffi, self.lib = module.ffi, module.lib
        self.stub = Stub(self.ffi, self.lib)
        self.stub.reset()
        self.xch = self.lib.probe_open()
        self.fmem = self.lib.xenforeignmemory_open(self.ffi.NULL, 0)
        assert self.xch and self.fmem

    def close(self) -> None:
        assert self.lib.xc_interface_close(self.xch) == 0
        assert self.lib.xenforeignmemory_close(self.fmem) == 0

    @property
    def errno(self) -> int:
        return int(self.ffi.errno)

    def guest(self, kind: str = "pv64", **values: Any) -> StubDomain:
        """A small PV guest; it writes only if asked to."""
        values.setdefault("mem", "8M")
        values.setdefault("writer", "none")
        return self.stub.guest(self.stub.create(getattr(StubGuest, kind)(**values)))

    def compat_m2p(self, room: int) -> list[int]:
        """The first frames of the 32-bit m2p's chunks, at most so many; none after an error."""
        out = self.ffi.new("xen_pfn_t[]", room)
        found = self.lib.probe_compat_m2p(self.xch, room, out)
        return [int(x) for x in out[0:max(found, 0)]]

    def hvm(self, kind: str = "hvm", **values: Any) -> StubDomain:
        """A small HVM or PVH guest; it writes only if asked to."""
        values.setdefault("mem", "8M")
        values.setdefault("writer", "none")
        return self.stub.guest(self.stub.create(getattr(StubGuest, kind)(**values)))

    def param(self, domid: int, index: int) -> int:
        """A param as the library tells it, or -errno."""
        value = self.ffi.new("uint64_t *")
        rc = self.lib.xc_hvm_param_get(self.xch, domid, index, value)
        return int(value[0]) if rc == 0 else -self.errno

    def set_param(self, domid: int, index: int, value: int) -> int:
        """0 or the errno."""
        return self.errno if self.lib.xc_hvm_param_set(self.xch, domid, index, value) else 0

    def context(self, domid: int) -> bytes:
        """The HVM context."""
        size = self.lib.xc_domain_hvm_getcontext(self.xch, domid, self.ffi.NULL, 0)
        assert size > 0
        buffer = self.ffi.new("uint8_t[]", size)
        got = self.lib.xc_domain_hvm_getcontext(self.xch, domid, buffer, size)
        assert 0 < got <= size
        return bytes(self.ffi.buffer(buffer, got))

    def set_context(self, domid: int, context: bytes) -> int:
        """0 or the errno."""
        buffer = self.ffi.new("uint8_t[]", context)
        return self.errno if self.lib.xc_domain_hvm_setcontext(self.xch, domid, buffer, len(context)) else 0

    def pod(self, domid: int) -> tuple[int, int, int]:
        """Pages owned, pages in the cache, entries."""
        out = self.ffi.new("uint64_t[3]")
        assert self.lib.xc_domain_get_pod_target(self.xch, domid, out, out + 1, out + 2) == 0
        return int(out[0]), int(out[1]), int(out[2])

    def nr_gpfns(self, domid: int) -> int:
        out = self.ffi.new("xen_pfn_t *")
        assert self.lib.xc_domain_nr_gpfns(self.xch, domid, out) == 0
        return int(out[0])

    def shadow(self, domid: int, op: int) -> int:
        """0 or the errno: 0 switches log-dirty mode off, 2 on."""
        return self.errno if self.lib.xc_shadow_control(self.xch, domid, op, self.ffi.NULL, 0) else 0

    def dirty(self, domid: int, clean: bool = True, left: int = 0) -> set[int]:
        """The pfns in the bitmap, which is cleaned unless it is only looked at. ``left``: counted, but not in it."""
        nr = self.nr_gpfns(domid)
        buffer, stats = self.ffi.new("xc_hypercall_buffer_t *"), self.ffi.new("xc_shadow_op_stats_t *")
        pages = -(-nr // 32768)
        memory = self.lib.xc__hypercall_buffer_alloc_pages(self.xch, buffer, pages)
        assert self.lib.xc_logdirty_control(self.xch, domid, 11 if clean else 12, buffer, nr, 0, stats) == nr
        bits = int.from_bytes(bytes(self.ffi.buffer(memory, -(-nr // 8))), "little")
        self.lib.xc__hypercall_buffer_free_pages(self.xch, buffer, pages)
        found = set()
        while bits:
            low = bits & -bits
            found.add(low.bit_length() - 1)
            bits ^= low
        assert stats.dirty_count == len(found) + left
        return found

    def info(self, domid: int) -> Any:
        out = self.ffi.new("xc_domaininfo_t *")
        assert self.lib.xc_domain_getinfolist(self.xch, domid, 1, out) == 1
        return out

    def map(self, domid: int, mfns: Sequence[int], prot: int = 1, per_page: bool = True) -> tuple[Any, list[int]]:
        """(address, err) of a foreign mapping; err is empty if per_page is false."""
        err = self.ffi.new("int[]", len(mfns)) if per_page else self.ffi.NULL
        address = self.lib.xenforeignmemory_map(
            self.fmem, domid, prot, len(mfns), self.ffi.new("xen_pfn_t[]", list(mfns)), err
        )
        return address, list(err) if per_page and address else []

    def unmap(self, address: Any, pages: int) -> None:
        assert self.lib.xenforeignmemory_unmap(self.fmem, address, pages) == 0

    def populate(self, domid: int, pfns: Sequence[int], order: int = 0) -> tuple[int, list[int]]:
        """(result, extents as they are then) of a populate call."""
        extents = self.ffi.new("xen_pfn_t[]", list(pfns))
        rc = self.lib.xc_domain_populate_physmap_exact(self.xch, domid, len(pfns), order, 0, extents)
        return int(rc), list(extents)

    def decrease(self, domid: int, mfns: Sequence[int]) -> int:
        """Result of a call that takes frames from a domain."""
        extents = self.ffi.new("xen_pfn_t[]", list(mfns))
        return int(self.lib.xc_domain_decrease_reservation_exact(self.xch, domid, len(mfns), 0, extents))

    def write(self, domid: int, mfn: int, data: bytes, offset: int = 0) -> None:
        """Writes into a frame through a writable mapping."""
        address, err = self.map(domid, [mfn], prot=3)
        assert err == [0]
        self.ffi.buffer(address, 4096)[offset:offset + len(data)] = data
        self.unmap(address, 1)

    def mmuext(self, domid: int, *ops: tuple[int, int]) -> int:
        """Runs (command, mfn) operations: commands 0 to 3 pin an L1 to L4 table, 4 unpins."""
        cmds = self.ffi.new("uint32_t[]", [cmd for cmd, _ in ops] or [0])
        mfns = self.ffi.new("uint64_t[]", [mfn for _, mfn in ops] or [0])
        return int(self.lib.probe_mmuext(self.xch, domid, len(ops), cmds, mfns))

    def types(self, domid: int, mfns: Sequence[int]) -> list[int]:
        array = self.ffi.new("xen_pfn_t[]", list(mfns))
        assert self.lib.xc_get_pfn_type_batch(self.xch, domid, len(mfns), array) == 0
        return [x >> 28 for x in array]


@pytest.fixture
def probe(probe_module: Any) -> Iterator[Probe]:
    """Handles on a new machine; nothing may be left behind at the end."""
    opened = Probe(probe_module)
    yield opened
    opened.stub.clear_failures()
    for domid in opened.stub.domains:
        opened.stub.destroy(domid)
    opened.close()
    leaks = opened.stub.leaks(handles=True)
    opened.stub.reset(force=True)
    assert leaks == {}
