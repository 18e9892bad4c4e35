/* A PV vcpu's context, from pfns to the frames that the domain was given. */
#include "restore/session.h"
#include "xen/vcpu_context.h"

#include <stdio.h>

#define VGCF_ONLINE (1ull << 5)

/* What the context says of a pfn cannot be. index: the vcpu, level: what the page would have to be. */
static int wrong(xcsr_restore *r, int err, uint32_t vcpu, const char *field, uint64_t pfn, uint32_t level, const char *what)
{
    xcsr_error *e = &r->h->error;
    e->index = vcpu;
    e->pfn = pfn;
    e->level = level;
    return xcsr_fail(e, XCSR_E_CONTEXT, err, field, "vcpu%u.%s names pfn %#llx, which %s", vcpu, field, (unsigned long long)pfn, what);
}

static int wrong_type(xcsr_restore *r, uint32_t vcpu, const char *field, uint64_t pfn, uint32_t level, uint32_t type)
{
    char what[64];
    r->h->error.type = type;
    if (level)
        snprintf(what, sizeof what, "is not a level %u page table (type %#x)", level, type);
    else
        snprintf(what, sizeof what, "is not an ordinary page (type %#x)", type);
    return wrong(r, EINVAL, vcpu, field, pfn, level, what);
}

static int to_mfn(void *by, uint32_t vcpu, const char *field, uint64_t pfn, uint32_t level, uint64_t *mfn)
{
    xcsr_restore *r = by;
    *mfn = xcsr_restore_mfn(r, pfn);
    if (*mfn == XCSR_INVALID || !xcsr_restore_has_data(r, pfn))
        return wrong(r, ENOENT, vcpu, field, pfn, level, "it does not contain");
    uint32_t type = xcsr_restore_type(r, pfn);
    return table_level(type) == level ? 0 : wrong_type(r, vcpu, field, pfn, level, type);
}

static int too_many(void *by, uint32_t vcpu, uint64_t gdt_ents)
{
    xcsr_error *e = &((xcsr_restore *)by)->h->error;
    e->index = vcpu;
    e->mfn = gdt_ents;
    return xcsr_fail(e, XCSR_E_CONTEXT, ERANGE, "gdt_ents", "vcpu%u.gdt_ents is %llu; at most 7168 are the guest's", vcpu,
                     (unsigned long long)gdt_ents);
}

int xcsr_restore_context(xcsr_restore *r, uint32_t vcpu, void *context, size_t len)
{
    XCSR_ENTER(r->h);
    const struct pt_geometry *g = r->geometry;
    struct context_frames f = {.geometry = g, .by = r, .to_pfns = false, .rename = to_mfn, .too_many = too_many};
    if (!g || len != g->vcpu.size)
        return xcsr_fail_call(r->h, EINVAL, "xcsr_restore_context", "a context of %zu bytes is not this PV guest's", len);
    char *flags = (char *)context + g->vcpu.flags;
    pt_put(g, flags, pt_get(g, flags) | VGCF_ONLINE);
    return vcpu_rename_frames(&f, vcpu, context);
}
