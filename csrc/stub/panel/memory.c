/* A guest's memory: the truth from the machine's own tables, and raw writes. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/types.h"
#include "stub/panel/guest.h"
#include "stub/panel/stub_api.h"

int stub_mfn(uint32_t domid, uint64_t pfn, uint64_t *mfn)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest_with(domid, pfn, &rc);
    if (d)
        *mfn = d->truth[pfn];
    st_unlock();
    return rc;
}

/* As many of the pfns as there is room for; returns how many there are. */
static int64_t copy_pfns(uint64_t *to, uint64_t max, const uint64_t *from, uint64_t count)
{
    if (max)
        memcpy(to, from, (count < max ? count : max) * sizeof(*to));
    return (int64_t)count;
}

int64_t stub_pfns(uint32_t domid, uint64_t *pfns, uint64_t max)
{
    const struct st_domain *d;
    int64_t count = 0;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    if (d)
        count = copy_pfns(pfns, max, d->mem, d->nr_mem);
    st_unlock();
    return d ? count : rc;
}

int64_t stub_pfns_of_type(uint32_t domid, uint32_t type, uint64_t *pfns, uint64_t max)
{
    const struct st_domain *d;
    uint64_t count = 0;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    for (uint64_t i = 0; d && i < d->nr_mem; i++) {
        if (st_frame_type(d->truth[d->mem[i]]) != type)
            continue;
        if (count < max)
            pfns[count] = d->mem[i];
        count++;
    }
    st_unlock();
    return d ? (int64_t)count : rc;
}

int64_t stub_leaf_pfns(uint32_t domid, uint64_t *pfns, uint64_t max)
{
    const struct st_domain *d;
    int64_t count = 0;
    int rc;

    st_lock();
    d = st_panel_pv(domid, &rc);
    if (d)
        count = copy_pfns(pfns, max, d->kernel->leaf, d->kernel->nr_leaves);
    st_unlock();
    return d ? count : rc;
}

int stub_read_page(uint32_t domid, uint64_t pfn, void *page)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest_with(domid, pfn, &rc);
    if (d)
        memcpy(page, st_guest_page(d, pfn), ST_PAGE_SIZE);
    st_unlock();
    return rc;
}

int stub_expected_pages(uint32_t domid, const uint64_t *pfns, uint64_t nr, void *pages, uint32_t *types)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = st_panel_guest(domid, &rc);
    for (uint64_t i = 0; d && !rc && i < nr; i++) {
        rc = st_expected_page(d, pfns[i], (uint64_t *)pages + i * ST_ENTRIES);
        if (!rc)
            types[i] = st_frame_type(d->truth[pfns[i]]);
    }
    st_unlock();
    return rc;
}

int stub_expected_page(uint32_t domid, uint64_t pfn, void *page, uint32_t *type)
{
    return stub_expected_pages(domid, &pfn, 1, page, type);
}

/* A write to what is populated on demand finds memory there. */
static struct st_domain *touched_guest(uint32_t domid, uint64_t pfn, int *rc)
{
    struct st_domain *d = st_panel_guest(domid, rc);

    if (d && d->hv && st_hvm_is_pod(d, pfn)) {
        *rc = st_pod_populate(d, pfn);
        if (*rc)
            return NULL;
    }
    return st_panel_guest_with(domid, pfn, rc);
}

int stub_write_page(uint32_t domid, uint64_t pfn, uint64_t offset, const void *data, uint64_t length)
{
    struct st_domain *d;
    int rc;

    if (offset > ST_PAGE_SIZE || length > ST_PAGE_SIZE - offset)
        return st_error(EINVAL, "%lu bytes at %lu do not lie in a page", (unsigned long)length,
                        (unsigned long)offset);
    st_lock();
    d = touched_guest(domid, pfn, &rc);
    if (d) {
        memcpy((uint8_t *)st_guest_page(d, pfn) + offset, data, length);
        st_mark_dirty(d, pfn);
    }
    st_unlock();
    return rc;
}

int stub_write_pte(uint32_t domid, uint64_t table_pfn, uint32_t index, uint64_t value, uint64_t *old)
{
    struct st_domain *d;
    int rc;

    if (index >= ST_ENTRIES)
        return st_error(EINVAL, "a table has no entry %u", index);
    st_lock();
    d = st_panel_guest_with(domid, table_pfn, &rc);
    if (d) {
        *old = ((const uint64_t *)st_guest_page(d, table_pfn))[index];
        st_write_word(d, table_pfn, index * sizeof(uint64_t), value);
        d->touched = true;
    }
    st_unlock();
    return rc;
}

int stub_set_type(uint32_t domid, uint64_t pfn, uint32_t type)
{
    uint32_t level = (type & XEN_DOMCTL_PFINFO_LTABTYPE_MASK) >> XEN_DOMCTL_PFINFO_LTAB_SHIFT;
    struct st_domain *d;
    int rc;

    if ((level > 4 && type != XEN_DOMCTL_PFINFO_BROKEN) || type & ~XEN_DOMCTL_PFINFO_LTAB_MASK)
        return st_error(EINVAL, "%#x is no type of a page with data", type);
    st_lock();
    d = st_panel_guest_with(domid, pfn, &rc);
    if (d && d->hv)
        rc = st_error(EINVAL, "Xen knows no page tables of guest %u", domid);
    else if (d) {
        st_set_level(d, pfn, level, (type & XEN_DOMCTL_PFINFO_LPINTAB) != 0);
        d->touched = true;
    }
    st_unlock();
    return rc;
}
