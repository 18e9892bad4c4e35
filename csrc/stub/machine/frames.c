/* Frames: where their memory is, and who has which. */
#include "stub/machine/domain.h"
#include "stub/machine/foreign.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/m2p.h"
#include "stub/machine/rng.h"
#include "stub/machine/types.h"

void *st_page(uint64_t mfn)
{
    return st.window + (mfn << ST_PAGE_SHIFT);
}

off_t st_file_offset(uint64_t mfn)
{
    if (mfn >= st.backed)
        mfn = st.backed + (mfn - st.backed) % ST_SHARED_FRAMES;
    return (off_t)(mfn << ST_PAGE_SHIFT);
}

size_t st_frames_in_a_row(const xen_pfn_t *frames, size_t max)
{
    off_t first = st_file_offset(frames[0]);
    size_t length = 1;

    while (length < max && frames[length] == frames[0] + length
           && st_file_offset(frames[length]) == first + (off_t)(length << ST_PAGE_SHIFT))
        length++;
    return length;
}

/* The frame that is handed out as number n. */
static uint64_t pool_frame(uint64_t n)
{
    uint64_t extent;

    if (st.mapped_by_window && !st.seed)
        return st.pool_first + n;
    extent = st_permute(n >> st.order, st.pool_frames >> st.order, st.seed);
    return st.pool_first + (extent << st.order) + (n & ((1UL << st.order) - 1));
}

static int next_free(uint64_t *mfn)
{
    if (st.nr_freed) {
        *mfn = st.freed[--st.nr_freed];
        return 0;
    }
    if (st.pool_next >= st.pool_frames)
        return st_error(ENOMEM, "the machine has no free frame left (of %lu)",
                        (unsigned long)st.nr_frames);
    *mfn = pool_frame(st.pool_next++);
    return 0;
}

/* Takes one frame out of those that were given back. */
int st_frame_take(uint64_t mfn)
{
    for (uint64_t i = st.nr_freed; i-- > 0;) {
        if (st.freed[i] != mfn)
            continue;
        st.freed[i] = st.freed[--st.nr_freed];
        return 0;
    }
    return st_error(EBUSY, "frame %#lx is not one that was given back", (unsigned long)mfn);
}

void st_frame_claim(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t mfn)
{
    st.frames[mfn] = (struct st_frame){ .pfn = pfn, .owner = owner, .kind = (uint8_t)kind };
    st_m2p_set(mfn, pfn);
}

int st_frame_alloc(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t *mfn)
{
    int rc = next_free(mfn);

    if (!rc)
        st_frame_claim(owner, kind, pfn, *mfn);
    return rc;
}

static void remember_freed(uint64_t mfn);

/* Frames that come before one below the limit are given back at once. */
int st_frame_alloc_below(uint64_t limit, uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t *mfn)
{
    uint64_t *high = NULL, nr_high = 0, room = 0;
    int rc = next_free(mfn);

    while (!rc && *mfn >= limit) {
        rc = st_list_add(&high, &nr_high, &room, *mfn);
        rc = rc ? rc : next_free(mfn);
    }
    while (nr_high)
        remember_freed(high[--nr_high]);
    free(high);
    if (rc == -ENOMEM && limit != ST_NONE)
        return st_error(ENOMEM, "the machine has no free frame left below frame %#lx (of %lu)",
                        (unsigned long)limit, (unsigned long)st.nr_frames);
    if (!rc)
        st_frame_claim(owner, kind, pfn, *mfn);
    return rc;
}

/* A frame that cannot be noted as free is lost to the machine until it is reset, nothing worse. */
static void remember_freed(uint64_t mfn)
{
    (void)st_list_add(&st.freed, &st.nr_freed, &st.cap_freed, mfn);
}

static void set_free(uint64_t mfn)
{
    st.frames[mfn] = (struct st_frame){ .owner = DOMID_INVALID, .kind = ST_FREE, .pfn = ST_NONE };
    st_m2p_set(mfn, ST_NONE);
    remember_freed(mfn);
}

void st_frame_free(uint64_t mfn)
{
    const struct st_frame *frame = &st.frames[mfn];
    struct st_domain *d = st_domain_find(frame->owner);

    if (d && d->hv && !d->dying && frame->foreign) {
        st.frames[mfn] = (struct st_frame){ .owner = frame->owner, .kind = ST_LINGERS, .pfn = ST_NONE,
                                            .foreign = frame->foreign };
        st_m2p_set(mfn, ST_NONE);
        d->hv->lingering++;
        return;
    }
    set_free(mfn);
}

void st_frame_unmapped(uint64_t mfn)
{
    struct st_frame *frame = &st.frames[mfn];

    if (!frame->foreign || --frame->foreign || frame->kind != ST_LINGERS)
        return;
    st_domain_find(frame->owner)->hv->lingering--;
    set_free(mfn);
}

/*
 * The first of 2^order free frames in a row, none of which is anybody's yet. There are such runs only
 * where the machine hands out frames in runs as long; what lies before the next one is set aside.
 */
int st_extent_alloc(unsigned order, uint64_t *mfn)
{
    uint64_t count = 1UL << order;

    if (!order)
        return next_free(mfn);
    if (order > st.order)
        return st_error(ENOMEM, "no %lu free frames in a row: they come in runs of %lu", (unsigned long)count,
                        1UL << st.order);
    while (st.pool_next % count && st.pool_next < st.pool_frames)
        remember_freed(pool_frame(st.pool_next++));
    if (st.pool_next + count > st.pool_frames)
        return st_error(ENOMEM, "the machine has no %lu free frames in a row left", (unsigned long)count);
    *mfn = pool_frame(st.pool_next);
    st.pool_next += count;
    return 0;
}

uint64_t st_free_frames(void)
{
    return st.pool_frames - st.pool_next + st.nr_freed;
}

/*
 * With no domain and no mapping left, frames are handed out from the beginning again: the same
 * ones, of which the system has memory already.
 */
void st_machine_idle(void)
{
    if (!st.up || st.domains || st_usage.mappings)
        return;
    st.nr_freed = 0;
    st.pool_next = sizeof(st.foreign) / sizeof(st.foreign[0]);
}

uint32_t st_frame_type(uint64_t mfn)
{
    return mfn < st.nr_frames ? st_type_of(&st.frames[mfn]) : XEN_DOMCTL_PFINFO_XTAB;
}
