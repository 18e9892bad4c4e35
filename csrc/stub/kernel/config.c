/* Whether a guest as it is described can be. */
#include "stub/kernel/config.h"
#include "stub/machine/base.h"
#include "stub/kernel/hvm/layout.h"
#include "stub/kernel/pv/p2m_place.h"
#include "stub/machine/vcpu.h"

#define MIN_PAGES       256UL

static int check_p2m(const stub_guest_config *c)
{
    const struct st_geometry *g = st_geometry(c->width);
    uint64_t per_leaf, nr_leaves;

    if (!g)
        return st_error(EINVAL, "a PV guest's words have 8 or 4 bytes, not %u", c->width);
    per_leaf = g->per_page;
    nr_leaves = (c->span + c->spare + per_leaf - 1) / per_leaf;
    if (c->p2m_kind != STUB_P2M_LINEAR && nr_leaves > per_leaf * per_leaf)
        return st_error(EINVAL, "the three-level tree ends at %lu GiB", per_leaf * per_leaf * per_leaf >> 18);
    if (!st_p2m_place(g, nr_leaves, c->p2m_vaddr))
        return st_error(EINVAL, "a p2m of %lu bytes cannot be at %#lx", (unsigned long)(nr_leaves << ST_PAGE_SHIFT),
                        (unsigned long)c->p2m_vaddr);
    return 0;
}

static int check_counts(const stub_guest_config *c)
{
    if (c->vcpus < 1 || c->vcpus > ST_MAX_VCPUS)
        return st_error(EINVAL, "a guest has 1 to %d vcpus, not %u", ST_MAX_VCPUS, c->vcpus);
    if (c->offline_vcpus & 1 || (c->vcpus < 64 && c->offline_vcpus >> c->vcpus))
        return st_error(EINVAL, "vcpu 0 is online, and only existing vcpus can be offline");
    if (c->msrs > ST_MAX_MSRS || c->xsave > ST_MAX_XSAVE)
        return st_error(EINVAL, "at most %d MSRs and %d bytes of XSAVE state", ST_MAX_MSRS, ST_MAX_XSAVE);
    if (c->xsave && (c->xsave < 592 || c->xsave % 8))
        return st_error(EINVAL, "XSAVE state is a multiple of 8 bytes, at least 592");
    if (memchr(c->name, 0, sizeof(c->name)) == NULL)
        return st_error(EINVAL, "the guest's name is too long");
    return 0;
}

int st_config_check(const stub_guest_config *c)
{
    int rc;

    if (c->pages < MIN_PAGES || c->pages > c->span || c->span > ST_MAX_SPAN || c->spare > ST_MAX_SPAN)
        return st_error(EINVAL, "pages: at least %lu, at most the span of pfns", MIN_PAGES);
    if (c->max_pages < c->pages)
        return st_error(EINVAL, "max_pages: at least the guest's %lu pages", (unsigned long)c->pages);
    if (!(c->holes >= 0 && c->holes < 1))
        return st_error(EINVAL, "holes: a share from 0 to below 1");
    if (c->p2m_kind > STUB_P2M_TREE || c->suspend > STUB_SUSPEND_ACK_ONLY)
        return st_error(EINVAL, "unknown p2m or suspend kind");
    rc = check_counts(c);
    return rc ? rc : check_p2m(c);
}

/* What goes beyond the end of a physmap, or of the machine, is refused when the guest is built. */
int st_config_check_hvm(const stub_guest_config *c, const stub_hvm_config *hvm)
{
    uint64_t pages = st_layout_pages(c, hvm);

    if (c->pages < MIN_PAGES || c->pages > ST_MAX_SPAN / 2)
        return st_error(EINVAL, "pages: at least %lu", MIN_PAGES);
    if (hvm->pod > c->pages / 2 || hvm->pod_cache > hvm->pod)
        return st_error(EINVAL, "at most half of the memory is populated on demand, from as many pages");
    if (c->max_pages < pages - (hvm->pod - hvm->pod_cache))
        return st_error(EINVAL, "max_pages: at least the guest's %lu pages", (unsigned long)pages);
    if (!(c->holes >= 0 && c->holes < 1))
        return st_error(EINVAL, "holes: a share from 0 to below 1");
    if (c->suspend > STUB_SUSPEND_ACK_ONLY || !hvm->balloon_every)
        return st_error(EINVAL, "unknown suspend kind, or ballooning every 0 ticks");
    if (hvm->compact && c->pages >= ST_VRAM)
        return st_error(EINVAL, "a compact guest has less than %lu pages", ST_VRAM);
    if (hvm->vram > ST_MAX_VRAM || (!hvm->device_model && (hvm->vram || hvm->devmodel)))
        return st_error(EINVAL, "vram: at most %lu pages, and only with a device model", ST_MAX_VRAM);
    return check_counts(c);
}
