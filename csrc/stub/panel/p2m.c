/* What a guest does to its p2m, and with its balloon. */
#include "stub/kernel/pv/balloon.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/machine/memory.h"
#include "stub/panel/guest.h"
#include "stub/panel/stub_api.h"

int stub_move_p2m(uint32_t domid, uint64_t vaddr, bool new_root)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    return d ? st_pv_move_p2m(d, vaddr, new_root) : rc;
}

int stub_replace_leaf(uint32_t domid, uint64_t index)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    return d ? st_p2m_replace_leaf(d, index) : rc;
}

int stub_move_tree(uint32_t domid)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    return d ? st_p2m_move_tree(d) : rc;
}

int stub_resize_p2m(uint32_t domid, uint64_t nr_pfns)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    return d ? st_p2m_resize(d, nr_pfns) : rc;
}

int stub_set_honest(uint32_t domid, bool honest)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    if (d)
        d->kernel->dishonest = !honest;
    return rc;
}

int stub_balloon_out(uint32_t domid, uint64_t pfn)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_booted(domid, &rc);

    return d ? d->kernel->kind->balloon_out(d, pfn) : rc;
}

int stub_balloon_in(uint32_t domid, uint64_t pfn, uint64_t mfn)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_booted(domid, &rc);

    return d ? d->kernel->kind->balloon_in(d, pfn, mfn) : rc;
}

int stub_move_page(uint32_t domid, uint64_t from, uint64_t to)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    return d ? st_pv_move_page(d, from, to) : rc;
}

int stub_bump_generation(uint32_t domid, uint64_t by)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    if (d)
        st_p2m_generation(d, by);
    return rc;
}

static int write_p2m(struct st_domain *d, uint64_t pfn, uint64_t value, uint64_t *old)
{
    uint64_t per_leaf = d->geometry->per_page;

    if (pfn >= d->nr_pfns)
        return st_error(EINVAL, "pfn %#lx is beyond the p2m's end", (unsigned long)pfn);
    *old = st_frame_in(d->geometry, st_guest_page(d, d->kernel->leaf[pfn / per_leaf]), pfn % per_leaf);
    return st_p2m_set(d, pfn, value);
}

int stub_write_p2m(uint32_t domid, uint64_t pfn, uint64_t value, uint64_t *old)
{
    ST_LOCKED;
    int rc;
    struct st_domain *d = st_panel_pv(domid, &rc);

    return d ? write_p2m(d, pfn, value, old) : rc;
}
