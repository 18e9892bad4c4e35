/* What a restored domain is told besides its memory: vcpus, TSC, CPU policy, single pages. */
#include "xen/handle.h"

#include <sys/mman.h>

int xcsr_write_frame(xcsr *h, uint32_t domid, uint64_t mfn, uint64_t offset, const void *data, size_t len)
{
    XCSR_ENTER(h);
    xen_pfn_t frame = mfn;
    if (offset > XCSR_PAGE || len > XCSR_PAGE - offset)
        return xcsr_fail_call(h, EINVAL, "xcsr_write_frame", "%zu bytes at %llu are not within a page", len,
                              (unsigned long long)offset);
    char *at = xenforeignmemory_map(h->fmem, domid, PROT_READ | PROT_WRITE, 1, &frame, NULL);
    if (!at)
        return xcsr_fail_call(h, errno, "xenforeignmemory_map", "cannot map mfn %#llx of domain %u for writing",
                              (unsigned long long)mfn, domid);
    memcpy(at + offset, data, len);
    if (xenforeignmemory_unmap(h->fmem, at, 1))
        return xcsr_fail_call(h, errno, "xenforeignmemory_unmap", "cannot unmap mfn %#llx", (unsigned long long)mfn);
    return 0;
}

int xcsr_set_width(xcsr *h, uint32_t domid, uint32_t nr_bytes)
{
    XCSR_ENTER(h);
    struct xen_domctl op;
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_set_address_size;
    op.domain = (domid_t)domid;
    op.u.address_size.size = nr_bytes * 8;
    if (xc_domctl(h->xch, &op))
        return xcsr_fail_call(h, errno, "XEN_DOMCTL_set_address_size", "cannot make domain %u a %u-bit one", domid, nr_bytes * 8);
    return 0;
}

int xcsr_set_tsc(xcsr *h, uint32_t domid, const xcsr_tsc *tsc)
{
    XCSR_ENTER(h);
    if (xc_domain_set_tsc_info(h->xch, domid, tsc->mode, tsc->nsec, tsc->khz, tsc->incarnation))
        return xcsr_fail_call(h, errno, "xc_domain_set_tsc_info", "cannot set domain %u's TSC", domid);
    return 0;
}

int xcsr_set_cpu_policy(xcsr *h, uint32_t domid, const void *leaves, size_t leaves_len, const void *msrs, size_t msrs_len)
{
    XCSR_ENTER(h);
    uint32_t leaf = ~0u, subleaf = ~0u, msr = ~0u;
    if (xc_set_domain_cpu_policy(h->xch, domid, (uint32_t)(leaves_len / sizeof(xen_cpuid_leaf_t)), (void *)(uintptr_t)leaves,
                                 (uint32_t)(msrs_len / sizeof(xen_msr_entry_t)), (void *)(uintptr_t)msrs, &leaf, &subleaf, &msr))
        return xcsr_fail_call(h, errno, "xc_set_domain_cpu_policy",
                              "this host cannot give domain %u its CPU policy (leaf %#x, subleaf %#x, MSR %#x)", domid, leaf,
                              subleaf, msr);
    return 0;
}

static int failed(xcsr *h, const char *op, uint32_t domid, uint32_t vcpu)
{
    return xcsr_fail_call(h, errno, op, "cannot set vcpu %u of domain %u", vcpu, domid);
}

static int wrong_size(xcsr *h, const char *op, size_t len)
{
    return xcsr_fail_call(h, EINVAL, op, "a vcpu's state cannot have %zu bytes", len);
}

int xcsr_set_vcpu_basic(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    XCSR_ENTER(h);
    vcpu_guest_context_any_t any;
    if (len != sizeof any.x64)
        return wrong_size(h, "xc_vcpu_setcontext", len);
    memset(&any, 0, sizeof any);
    memcpy(&any.x64, data, len);
    return xc_vcpu_setcontext(h->xch, domid, vcpu, &any) ? failed(h, "xc_vcpu_setcontext", domid, vcpu) : 0;
}

int xcsr_set_vcpu_extended(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    XCSR_ENTER(h);
    struct xen_domctl op;
    memset(&op, 0, sizeof op);
    /* Streams that were converted from Xen 4.5's have the domctl's whole union, of which only the beginning is state. */
    if (len > sizeof op.u || len < 8)
        return wrong_size(h, "XEN_DOMCTL_set_ext_vcpucontext", len);
    op.cmd = XEN_DOMCTL_set_ext_vcpucontext;
    op.domain = (domid_t)domid;
    memcpy(&op.u, data, len);
    op.u.ext_vcpucontext.vcpu = vcpu; /* whatever the blob says */
    op.u.ext_vcpucontext.size = (uint32_t)(len < sizeof op.u.ext_vcpucontext ? len : sizeof op.u.ext_vcpucontext);
    return xc_domctl(h->xch, &op) ? failed(h, "XEN_DOMCTL_set_ext_vcpucontext", domid, vcpu) : 0;
}

int xcsr_set_vcpu_xsave(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    XCSR_ENTER(h);
    struct xen_domctl op;
    DECLARE_HYPERCALL_BUFFER(uint8_t, state);
    if (len < 16 || len > UINT32_MAX)
        return wrong_size(h, "XEN_DOMCTL_setvcpuextstate", len);
    state = xc_hypercall_buffer_alloc(h->xch, state, len);
    if (!state)
        return xcsr_fail_call(h, errno, "xc_hypercall_buffer_alloc", "no hypercall memory for %zu bytes", len);
    memcpy(state, data, len);
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_setvcpuextstate;
    op.domain = (domid_t)domid;
    op.u.vcpuextstate.vcpu = vcpu;
    op.u.vcpuextstate.size = len;
    set_xen_guest_handle(op.u.vcpuextstate.buffer, state);
    int rc = xc_domctl(h->xch, &op) ? failed(h, "XEN_DOMCTL_setvcpuextstate", domid, vcpu) : 0;
    xc_hypercall_buffer_free(h->xch, state);
    return rc;
}

int xcsr_set_vcpu_msrs(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    XCSR_ENTER(h);
    struct xen_domctl op;
    DECLARE_HYPERCALL_BUFFER(xen_domctl_vcpu_msr_t, msrs);
    if (!len || len % sizeof *msrs || len > UINT32_MAX)
        return wrong_size(h, "XEN_DOMCTL_set_vcpu_msrs", len);
    msrs = xc_hypercall_buffer_alloc(h->xch, msrs, len);
    if (!msrs)
        return xcsr_fail_call(h, errno, "xc_hypercall_buffer_alloc", "no hypercall memory for %zu bytes", len);
    memcpy(msrs, data, len);
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_set_vcpu_msrs;
    op.domain = (domid_t)domid;
    op.u.vcpu_msrs.vcpu = vcpu;
    op.u.vcpu_msrs.msr_count = (uint32_t)(len / sizeof *msrs);
    set_xen_guest_handle(op.u.vcpu_msrs.msrs, msrs);
    int rc = xc_domctl(h->xch, &op) ? failed(h, "XEN_DOMCTL_set_vcpu_msrs", domid, vcpu) : 0;
    xc_hypercall_buffer_free(h->xch, msrs);
    return rc;
}

int xcsr_seed_grants(xcsr *h, uint32_t domid, uint64_t console_mfn, uint64_t store_mfn, uint32_t console_domid,
                     uint32_t store_domid)
{
    XCSR_ENTER(h);
    if (xc_dom_gnttab_seed(h->xch, domid, false, console_mfn, store_mfn, console_domid, store_domid))
        return xcsr_fail_call(h, errno, "xc_dom_gnttab_seed", "cannot grant domain %u's console and store rings", domid);
    return 0;
}
