/* What Xen tells of an HVM or PVH guest besides its memory, and what it is told of one that is restored. */
#include "xen/hvm.h"

int hvm_nr_gpfns(xcsr *h, uint32_t domid, uint64_t *nr)
{
    xen_pfn_t gpfns = 0;
    *nr = 0;
    if (xc_domain_nr_gpfns(h->xch, domid, &gpfns))
        return xcsr_fail_call(h, errno, "xc_domain_nr_gpfns", "cannot ask for domain %u's last gfn", domid);
    *nr = gpfns;
    return 0;
}

int xcsr_nr_gpfns(xcsr *h, uint32_t domid, uint64_t *nr)
{
    XCSR_ENTER(h);
    return hvm_nr_gpfns(h, domid, nr);
}

int xcsr_pod_target(xcsr *h, uint32_t domid, xcsr_pod *out)
{
    XCSR_ENTER(h);
    memset(out, 0, sizeof *out);
    if (xc_domain_get_pod_target(h->xch, domid, &out->tot_pages, &out->cache_pages, &out->entries))
        return xcsr_fail_call(h, errno, "xc_domain_get_pod_target", "cannot ask for domain %u's populate-on-demand entries", domid);
    return 0;
}

int hvm_param(xcsr *h, uint32_t domid, uint32_t index, uint64_t *value)
{
    *value = 0;
    if (xc_hvm_param_get(h->xch, domid, index, value))
        return xcsr_fail_call(h, errno, "xc_hvm_param_get", "cannot read HVM parameter %u of domain %u", index, domid);
    return 0;
}

int xcsr_hvm_param(xcsr *h, uint32_t domid, uint32_t index, uint64_t *value)
{
    XCSR_ENTER(h);
    return hvm_param(h, domid, index, value);
}

int xcsr_set_hvm_param(xcsr *h, uint32_t domid, uint32_t index, uint64_t value)
{
    XCSR_ENTER(h);
    if (xc_hvm_param_set(h->xch, domid, index, value))
        return xcsr_fail_call(h, errno, "xc_hvm_param_set", "Xen refuses to set HVM parameter %u of domain %u to %#llx", index,
                              domid, (unsigned long long)value);
    return 0;
}

int hvm_context_size(xcsr *h, uint32_t domid, size_t *size)
{
    int rc = xc_domain_hvm_getcontext(h->xch, domid, NULL, 0);
    *size = rc > 0 ? (size_t)rc : 0;
    if (rc < 0)
        return xcsr_fail_call(h, errno, "xc_domain_hvm_getcontext", "cannot ask how large domain %u's HVM context is", domid);
    if (!rc)
        return xcsr_fail_call(h, EPROTO, "xc_domain_hvm_getcontext", "Xen says that domain %u's HVM context is empty", domid);
    return 0;
}

static int too_small(xcsr *h, uint32_t domid, size_t size)
{
    return xcsr_fail_call(h, ENOBUFS, "xc_domain_hvm_getcontext", "domain %u's HVM context may need %zu bytes", domid, size);
}

/* The context may have grown since its size was asked, and only Xen's refusal tells: then it is asked again. */
static int read_context(xcsr *h, uint32_t domid, void *buf, size_t room, size_t *len)
{
    int rc = xc_domain_hvm_getcontext(h->xch, domid, buf, (uint32_t)room);
    if (rc < 0 && errno == ENOSPC) {
        rc = hvm_context_size(h, domid, len);
        if (*len <= room) /* it shrank again; the caller's next try must have more room all the same */
            *len = room + XCSR_PAGE;
        return rc ? rc : too_small(h, domid, *len);
    }
    if (rc < 0)
        return xcsr_fail_call(h, errno, "xc_domain_hvm_getcontext", "cannot read domain %u's HVM context", domid);
    if (!rc || (size_t)rc > room)
        return xcsr_fail_call(h, EPROTO, "xc_domain_hvm_getcontext", "Xen claims to have written %d bytes of HVM context into %zu", rc,
                              room);
    *len = (size_t)rc;
    return 0;
}

int hvm_context(xcsr *h, uint32_t domid, void *buf, size_t *len)
{
    size_t room = *len < UINT32_MAX ? *len : UINT32_MAX;
    int rc = hvm_context_size(h, domid, len);
    if (rc)
        return rc;
    return *len > room ? too_small(h, domid, *len) : read_context(h, domid, buf, room, len);
}

int xcsr_hvm_context_size(xcsr *h, uint32_t domid, size_t *len)
{
    XCSR_ENTER(h);
    return hvm_context_size(h, domid, len);
}

int xcsr_hvm_context(xcsr *h, uint32_t domid, void *buf, size_t *len)
{
    XCSR_ENTER(h);
    return hvm_context(h, domid, buf, len);
}

int xcsr_set_hvm_context(xcsr *h, uint32_t domid, const void *data, size_t len)
{
    XCSR_ENTER(h);
    if (!len || len > UINT32_MAX)
        return xcsr_fail_call(h, EINVAL, "xc_domain_hvm_setcontext", "an HVM context cannot have %zu bytes", len);
    if (xc_domain_hvm_setcontext(h->xch, domid, (uint8_t *)(uintptr_t)data, (uint32_t)len))
        return xcsr_fail_call(h, errno, "xc_domain_hvm_setcontext",
                              "Xen refuses domain %u's HVM context (is this Xen older than the one that wrote it?)", domid);
    return 0;
}
