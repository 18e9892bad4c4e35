/* A PV vcpu's state as Xen gives and takes it: see vcpu_context.c for its frames. The three kinds that have no wrapper
 * in libxenctrl go through xc_domctl. */
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

static int cannot_set(xcsr *h, const char *op, uint32_t domid, uint32_t vcpu)
{
    return xcsr_fail_call(h, errno, op, "cannot set vcpu %u of domain %u", vcpu, domid);
}

int vcpu_online(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t *online)
{
    xc_vcpuinfo_t info;
    if (xc_vcpu_getinfo(h->xch, domid, vcpu, &info))
        return failed(h, "xc_vcpu_getinfo", domid, vcpu);
    *online = !!info.online;
    return 0;
}

static int get_basic(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, void *buf, size_t *len)
{
    vcpu_guest_context_any_t any;
    const struct pt_geometry *geometry = pt_geometry(width);
    if (!geometry)
        return xcsr_fail_call(h, EOPNOTSUPP, "xc_vcpu_getcontext", "a vcpu with words of %u bytes", width);
    memset(&any, 0, sizeof any);
    if (xc_vcpu_getcontext(h->xch, domid, vcpu, &any))
        return failed(h, "xc_vcpu_getcontext", domid, vcpu);
    return give(h, "xc_vcpu_getcontext", &any, geometry->vcpu.size, buf, len);
}

static int get_extended(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, void *buf, size_t *len)
{
    (void)width;
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

/* -- xsave and MSRs: domctls that go with a buffer */

struct buffered { /* one of them */
    const char *get, *set; /* the domctls' names */
    uint32_t get_cmd, set_cmd;
    uint64_t (*size)(const struct xen_domctl *op); /* bytes; 0: there is nothing to save */
    void (*put)(struct xen_domctl *op, uint32_t vcpu, void *buf, size_t size);
};

static uint64_t xsave_size(const struct xen_domctl *op)
{
    return op->u.vcpuextstate.xfeature_mask ? op->u.vcpuextstate.size : 0;
}

static void put_xsave(struct xen_domctl *op, uint32_t vcpu, void *buf, size_t size)
{
    op->u.vcpuextstate.vcpu = vcpu;
    op->u.vcpuextstate.size = size;
    set_xen_guest_handle_raw(op->u.vcpuextstate.buffer, buf);
}

static uint64_t msrs_size(const struct xen_domctl *op)
{
    return (uint64_t)op->u.vcpu_msrs.msr_count * sizeof(xen_domctl_vcpu_msr_t);
}

static void put_msrs(struct xen_domctl *op, uint32_t vcpu, void *buf, size_t size)
{
    op->u.vcpu_msrs.vcpu = vcpu;
    op->u.vcpu_msrs.msr_count = (uint32_t)(size / sizeof(xen_domctl_vcpu_msr_t));
    set_xen_guest_handle_raw(op->u.vcpu_msrs.msrs, buf);
}

static const struct buffered xsave = {
    .get = "XEN_DOMCTL_getvcpuextstate",
    .set = "XEN_DOMCTL_setvcpuextstate",
    .get_cmd = XEN_DOMCTL_getvcpuextstate,
    .set_cmd = XEN_DOMCTL_setvcpuextstate,
    .size = xsave_size,
    .put = put_xsave,
};
static const struct buffered msrs = {
    .get = "XEN_DOMCTL_get_vcpu_msrs",
    .set = "XEN_DOMCTL_set_vcpu_msrs",
    .get_cmd = XEN_DOMCTL_get_vcpu_msrs,
    .set_cmd = XEN_DOMCTL_set_vcpu_msrs,
    .size = msrs_size,
    .put = put_msrs,
};

static void begin(struct xen_domctl *op, uint32_t cmd, uint32_t domid)
{
    memset(op, 0, sizeof *op);
    op->cmd = cmd;
    op->domain = (domid_t)domid;
}

static int no_memory(xcsr *h, size_t size)
{
    return xcsr_fail_call(h, errno, "xc_hypercall_buffer_alloc", "no hypercall memory for %zu bytes", size);
}

/* Asked twice: without a buffer Xen says how large it must be. */
static int get_buffered(xcsr *h, const struct buffered *w, uint32_t domid, uint32_t vcpu, void *buf, size_t *len)
{
    struct xen_domctl op;
    begin(&op, w->get_cmd, domid);
    w->put(&op, vcpu, NULL, 0);
    if (xc_domctl(h->xch, &op))
        return failed(h, w->get, domid, vcpu);
    size_t size = w->size(&op);
    if (!size)
        return give(h, w->get, "", 0, buf, len);
    DECLARE_HYPERCALL_BUFFER(uint8_t, state);
    state = xc_hypercall_buffer_alloc(h->xch, state, size);
    if (!state)
        return no_memory(h, size);
    w->put(&op, vcpu, HYPERCALL_BUFFER(state)->hbuf, size);
    int rc = xc_domctl(h->xch, &op) ? failed(h, w->get, domid, vcpu) : 0;
    if (!rc && w->size(&op) > size)
        rc = xcsr_fail_call(h, EPROTO, w->get, "the state grew while it was read");
    if (!rc)
        rc = give(h, w->get, state, w->size(&op), buf, len);
    xc_hypercall_buffer_free(h->xch, state);
    return rc;
}

static int set_buffered(xcsr *h, const struct buffered *w, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    struct xen_domctl op;
    DECLARE_HYPERCALL_BUFFER(uint8_t, state);
    state = xc_hypercall_buffer_alloc(h->xch, state, len);
    if (!state)
        return no_memory(h, len);
    memcpy(state, data, len);
    begin(&op, w->set_cmd, domid);
    w->put(&op, vcpu, HYPERCALL_BUFFER(state)->hbuf, len);
    int rc = xc_domctl(h->xch, &op) ? cannot_set(h, w->set, domid, vcpu) : 0;
    xc_hypercall_buffer_free(h->xch, state);
    return rc;
}

static int get_xsave(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, void *buf, size_t *len)
{
    (void)width;
    return get_buffered(h, &xsave, domid, vcpu, buf, len);
}

static int get_msrs(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, void *buf, size_t *len)
{
    (void)width;
    return get_buffered(h, &msrs, domid, vcpu, buf, len);
}

/* -- what others call */

int xcsr_vcpu_online(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t *online)
{
    XCSR_ENTER(h);
    return vcpu_online(h, domid, vcpu, online);
}

int vcpu_blob(xcsr *h, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which, uint32_t width, void *buf, size_t *len)
{
    typedef int get_blob(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, void *buf, size_t *len);
    static get_blob *const blobs[] = {get_basic, get_extended, get_xsave, get_msrs};
    return blobs[which](h, domid, vcpu, width, buf, len);
}

int xcsr_vcpu_blob(xcsr *h, uint32_t domid, uint32_t vcpu, enum xcsr_vcpu_blob which, uint32_t width, void *buf, size_t *len)
{
    XCSR_ENTER(h);
    return vcpu_blob(h, domid, vcpu, which, width, buf, len);
}

static int wrong_size(xcsr *h, const char *op, size_t len)
{
    return xcsr_fail_call(h, EINVAL, op, "a vcpu's state cannot have %zu bytes", len);
}

int xcsr_set_vcpu_basic(xcsr *h, uint32_t domid, uint32_t vcpu, uint32_t width, const void *data, size_t len)
{
    XCSR_ENTER(h);
    vcpu_guest_context_any_t any;
    const struct pt_geometry *geometry = pt_geometry(width);
    if (!geometry || len != geometry->vcpu.size)
        return wrong_size(h, "xc_vcpu_setcontext", len);
    memset(&any, 0, sizeof any);
    memcpy(&any, data, len);
    return xc_vcpu_setcontext(h->xch, domid, vcpu, &any) ? cannot_set(h, "xc_vcpu_setcontext", domid, vcpu) : 0;
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
    return xc_domctl(h->xch, &op) ? cannot_set(h, "XEN_DOMCTL_set_ext_vcpucontext", domid, vcpu) : 0;
}

int xcsr_set_vcpu_xsave(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    XCSR_ENTER(h);
    if (len < 16 || len > UINT32_MAX)
        return wrong_size(h, xsave.set, len);
    return set_buffered(h, &xsave, domid, vcpu, data, len);
}

int xcsr_set_vcpu_msrs(xcsr *h, uint32_t domid, uint32_t vcpu, const void *data, size_t len)
{
    XCSR_ENTER(h);
    if (!len || len % sizeof(xen_domctl_vcpu_msr_t) || len > UINT32_MAX)
        return wrong_size(h, msrs.set, len);
    return set_buffered(h, &msrs, domid, vcpu, data, len);
}
