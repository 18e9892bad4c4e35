/* A vcpu's state as Xen gives it; expressing it in pfns is the caller's work. The three kinds that
 * have no libxenctrl wrapper go through xc_domctl. */
#include "xen/vcpu.h"

static int give(xcsr *h, const char *op, const void *blob, size_t size, void *buf, size_t *len)
{
    size_t capacity = *len;
    *len = size;
    if (size > capacity)
        return xcsr_fail_call(h, ENOBUFS, op, "%zu bytes do not fit into %zu", size, capacity);
    memcpy(buf, blob, size);
    return 0;
}

static int failed(xcsr *h, const char *op, uint32_t domid, uint32_t vcpu)
{
    return xcsr_fail_call(h, errno, op, "cannot read vcpu %u of domain %u", vcpu, domid);
}

int vcpu_online(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t *online)
{
    xc_vcpuinfo_t info;
    if (xc_vcpu_getinfo(h->xch, domid, vcpu, &info))
        return failed(h, "xc_vcpu_getinfo", domid, vcpu);
    *online = !!info.online;
    return 0;
}

static int get_basic(xcsr *h, uint32_t domid, uint32_t vcpu, void *buf, size_t *len)
{
    vcpu_guest_context_any_t any;
    memset(&any, 0, sizeof any);
    if (xc_vcpu_getcontext(h->xch, domid, vcpu, &any))
        return failed(h, "xc_vcpu_getcontext", domid, vcpu);
    return give(h, "xc_vcpu_getcontext", &any, sizeof any.x64, buf, len);
}

static int get_extended(xcsr *h, uint32_t domid, uint32_t vcpu, void *buf, size_t *len)
{
    struct xen_domctl op;
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_get_ext_vcpucontext;
    op.domain = (domid_t)domid;
    op.u.ext_vcpucontext.vcpu = vcpu;
    if (xc_domctl(h->xch, &op))
        return failed(h, "XEN_DOMCTL_get_ext_vcpucontext", domid, vcpu);
    if (op.u.ext_vcpucontext.size > sizeof op.u.ext_vcpucontext)
        return xcsr_fail_call(h, EPROTO, "XEN_DOMCTL_get_ext_vcpucontext", "Xen claims %u bytes of state",
                              op.u.ext_vcpucontext.size);
    return give(h, "XEN_DOMCTL_get_ext_vcpucontext", &op.u.ext_vcpucontext, op.u.ext_vcpucontext.size, buf, len);
}

static int get_xsave(xcsr *h, uint32_t domid, uint32_t vcpu, void *buf, size_t *len)
{
    struct xen_domctl op;
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_getvcpuextstate;
    op.domain = (domid_t)domid;
    op.u.vcpuextstate.vcpu = vcpu;
    if (xc_domctl(h->xch, &op))
        return failed(h, "XEN_DOMCTL_getvcpuextstate", domid, vcpu);
    size_t size = op.u.vcpuextstate.size;
    if (!op.u.vcpuextstate.xfeature_mask || !size)
        return give(h, "XEN_DOMCTL_getvcpuextstate", "", 0, buf, len);
    DECLARE_HYPERCALL_BUFFER(uint8_t, state);
    state = xc_hypercall_buffer_alloc(h->xch, state, size);
    if (!state)
        return xcsr_fail_call(h, errno, "xc_hypercall_buffer_alloc", "no hypercall memory for %zu bytes", size);
    set_xen_guest_handle(op.u.vcpuextstate.buffer, state);
    int rc = xc_domctl(h->xch, &op) ? failed(h, "XEN_DOMCTL_getvcpuextstate", domid, vcpu) : 0;
    if (!rc && op.u.vcpuextstate.size > size)
        rc = xcsr_fail_call(h, EPROTO, "XEN_DOMCTL_getvcpuextstate", "the state grew while it was read");
    if (!rc)
        rc = give(h, "XEN_DOMCTL_getvcpuextstate", state, op.u.vcpuextstate.size, buf, len);
    xc_hypercall_buffer_free(h->xch, state);
    return rc;
}

static int get_msrs(xcsr *h, uint32_t domid, uint32_t vcpu, void *buf, size_t *len)
{
    struct xen_domctl op;
    memset(&op, 0, sizeof op);
    op.cmd = XEN_DOMCTL_get_vcpu_msrs;
    op.domain = (domid_t)domid;
    op.u.vcpu_msrs.vcpu = vcpu;
    if (xc_domctl(h->xch, &op))
        return failed(h, "XEN_DOMCTL_get_vcpu_msrs", domid, vcpu);
    uint32_t count = op.u.vcpu_msrs.msr_count;
    if (!count)
        return give(h, "XEN_DOMCTL_get_vcpu_msrs", "", 0, buf, len);
    DECLARE_HYPERCALL_BUFFER(xen_domctl_vcpu_msr_t, msrs);
    size_t size = count * sizeof *msrs;
    msrs = xc_hypercall_buffer_alloc(h->xch, msrs, size);
    if (!msrs)
        return xcsr_fail_call(h, errno, "xc_hypercall_buffer_alloc", "no hypercall memory for %u MSRs", count);
    set_xen_guest_handle(op.u.vcpu_msrs.msrs, msrs);
    int rc = xc_domctl(h->xch, &op) ? failed(h, "XEN_DOMCTL_get_vcpu_msrs", domid, vcpu) : 0;
    if (!rc && op.u.vcpu_msrs.msr_count > count)
        rc = xcsr_fail_call(h, EPROTO, "XEN_DOMCTL_get_vcpu_msrs", "the MSRs grew while they were read");
    if (!rc)
        rc = give(h, "XEN_DOMCTL_get_vcpu_msrs", msrs, op.u.vcpu_msrs.msr_count * sizeof *msrs, buf, len);
    xc_hypercall_buffer_free(h->xch, msrs);
    return rc;
}

int xcsr_vcpu_online(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t *online)
{
    XCSR_ENTER(h);
    return vcpu_online(h, domid, vcpu, online);
}

int vcpu_blob(xcsr *h, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which, void *buf, size_t *len)
{
    typedef int get_blob(xcsr *h, uint32_t domid, uint32_t vcpu, void *buf, size_t *len);
    static get_blob *const blobs[] = {get_basic, get_extended, get_xsave, get_msrs};
    return blobs[which](h, domid, vcpu, buf, len);
}

int xcsr_vcpu_blob(xcsr *h, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which, void *buf, size_t *len)
{
    XCSR_ENTER(h);
    return vcpu_blob(h, domid, vcpu, which, buf, len);
}
