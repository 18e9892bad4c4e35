/* Pages of a domain: which pfn has which frame. */
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/m2p.h"
#include "stub/machine/memory.h"

void *st_guest_page(const struct st_domain *d, uint64_t pfn)
{
    return st_page(d->truth[pfn]);
}

void st_own(struct st_domain *d, uint64_t pfn, uint64_t mfn)
{
    st_frame_claim((uint16_t)d->id, ST_DATA, pfn, mfn);
    d->truth[pfn] = mfn;
    st.frames[mfn].mem_index = (uint32_t)d->nr_mem;
    d->mem[d->nr_mem++] = pfn;
}

int st_add_extent(struct st_domain *d, uint64_t pfn, unsigned order, uint64_t *mfn)
{
    int rc = st_extent_alloc(order, mfn);

    for (uint64_t i = 0; !rc && i < 1UL << order; i++)
        st_own(d, pfn + i, *mfn + i);
    return rc;
}

int st_add_frame(struct st_domain *d, uint64_t pfn, uint64_t mfn)
{
    int rc = st_frame_take(mfn);

    if (!rc)
        st_own(d, pfn, mfn);
    return rc;
}

int st_add_memory(struct st_domain *d, uint64_t pfn)
{
    uint64_t mfn;

    return st_add_extent(d, pfn, 0, &mfn);
}

uint64_t st_own_pfn(const struct st_domain *d, uint64_t mfn)
{
    const struct st_frame *frame = mfn < st.nr_frames ? &st.frames[mfn] : NULL;

    if (!frame || frame->kind == ST_FREE || frame->kind == ST_XEN || frame->owner != d->id)
        return ST_NONE;
    return frame->pfn;
}

static int compare_pfns(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* By pfn, as a builder adds them: what the guest does next depends on the order. */
void st_sort_memory(struct st_domain *d)
{
    qsort(d->mem, d->nr_mem, sizeof(*d->mem), compare_pfns);
    for (uint64_t i = 0; i < d->nr_mem; i++)
        st.frames[d->truth[d->mem[i]]].mem_index = (uint32_t)i;
}

int st_remove_memory(struct st_domain *d, uint64_t pfn)
{
    uint64_t mfn, last;

    if (!st_has_memory(d, pfn))
        return st_error(ENOENT, "pfn %#lx has no memory", (unsigned long)pfn);
    mfn = d->truth[pfn];
    last = d->mem[--d->nr_mem];
    d->mem[st.frames[mfn].mem_index] = last;
    st.frames[d->truth[last]].mem_index = st.frames[mfn].mem_index;
    d->truth[pfn] = 0;
    st_frame_free(mfn);
    return 0;
}

void st_move_memory(struct st_domain *d, uint64_t from, uint64_t to)
{
    uint64_t mfn = d->truth[from];

    d->mem[st.frames[mfn].mem_index] = to;
    st.frames[mfn].pfn = to;
    st_m2p_set(mfn, to);
    d->truth[to] = mfn;
    d->truth[from] = 0;
}

void st_write_word(struct st_domain *d, uint64_t pfn, uint64_t offset, uint64_t value)
{
    uint8_t *page = st_guest_page(d, pfn);

    __atomic_store_n((uint64_t *)(void *)(page + offset), value, __ATOMIC_RELAXED);
    st_mark_dirty(d, pfn);
}

void st_set_word(struct st_domain *d, uint64_t pfn, uint64_t i, uint64_t value)
{
    void *page = st_guest_page(d, pfn);

    if (d->geometry->width == sizeof(uint64_t))
        __atomic_store_n((uint64_t *)page + i, value, __ATOMIC_RELAXED);
    else
        __atomic_store_n((uint32_t *)page + i, (uint32_t)value, __ATOMIC_RELAXED);
    st_mark_dirty(d, pfn);
}
