/* What is in the guest's p2m comes, goes and moves. */
#include "stub/kernel/pv/balloon.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/kernel/pv/p2m.h"
#include "stub/kernel/pv/process.h"
#include "stub/kernel/pv/tables.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"

static int check_data(const struct st_domain *d, uint64_t pfn)
{
    if (!st_has_memory(d, pfn))
        return st_error(ENOENT, "pfn %#lx of guest %u has no memory", (unsigned long)pfn, d->id);
    if (st.frames[d->truth[pfn]].kind != ST_DATA)
        return st_error(EBUSY, "pfn %#lx is in use by the guest's kernel", (unsigned long)pfn);
    return 0;
}

static int check_hole(const struct st_domain *d, uint64_t pfn)
{
    if (pfn < d->nr_pfns && !d->truth[pfn])
        return 0;
    return st_error(EINVAL, "pfn %#lx has memory already, or is beyond the p2m's end", (unsigned long)pfn);
}

int st_pv_balloon_out(struct st_domain *d, uint64_t pfn)
{
    int rc = check_data(d, pfn);

    if (rc)
        return rc;
    st_user_unmap(d, pfn);
    st_direct_unmap(d, pfn);
    rc = st_p2m_set(d, pfn, ST_NONE);
    return rc ? rc : st_remove_memory(d, pfn);
}

int st_pv_balloon_in(struct st_domain *d, uint64_t pfn, uint64_t mfn)
{
    int rc = check_hole(d, pfn);

    if (rc)
        return rc;
    if (d->nr_mem >= d->max_pages)
        return st_error(ENOMEM, "guest %u owns as many pages as it may (%lu)", d->id,
                        (unsigned long)d->max_pages);
    rc = mfn == ST_NONE ? st_add_memory(d, pfn) : st_add_frame(d, pfn, mfn);
    if (rc)
        return rc;
    st_fill_anew(d, pfn);
    rc = st_p2m_set(d, pfn, d->truth[pfn]);
    return rc ? rc : st_direct_map(d, pfn);
}

/* The frame stays where the process sees it: only its pfn is another. Xen marks the new one (MMU_MACHPHYS_UPDATE). */
int st_pv_move_page(struct st_domain *d, uint64_t from, uint64_t to)
{
    int rc = check_data(d, from);

    rc = rc ? rc : check_hole(d, to);
    rc = rc ? rc : st_p2m_set(d, to, d->truth[from]);
    if (rc)
        return rc;
    rc = check_data(d, from);
    if (rc) { /* it was taken for a page of the p2m itself */
        st_p2m_set(d, to, ST_NONE);
        return rc;
    }
    st_direct_unmap(d, from);
    st_p2m_set(d, from, ST_NONE);
    st_move_memory(d, from, to);
    st_mark_dirty(d, to);
    return st_direct_map(d, to);
}
