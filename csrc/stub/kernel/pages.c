/* Pages of a guest: what its kernel uses them for, what is in them. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/machine/frames.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"

#define HOLE_RUN       4UL                      /* pfns: holes come in such runs */
#define FIRST_HOLE_PFN 16UL

bool st_is_hole(const struct st_domain *d, uint64_t pfn)
{
    uint64_t limit = (uint64_t)(d->kernel->config.holes * 4294967296.0);

    if (pfn < FIRST_HOLE_PFN || !limit)
        return false;
    return (st_hash(d->kernel->config.seed ^ 0x686f6c65, pfn / HOLE_RUN) & 0xffffffff) < limit;
}

static bool is_data(const struct st_domain *d, uint64_t pfn)
{
    return st.frames[d->truth[pfn]].kind == ST_DATA;
}

/* Some data page, evenly at random; falls back to a scan where few are left. */
static int any_data(struct st_domain *d, uint64_t *pfn)
{
    uint64_t start;

    if (!d->nr_mem)
        return -ENOMEM;
    for (unsigned attempt = 0; attempt < 16; attempt++) {
        *pfn = d->mem[st_below(&d->kernel->rng, d->nr_mem)];
        if (is_data(d, *pfn))
            return 0;
    }
    start = st_below(&d->kernel->rng, d->nr_mem);
    for (uint64_t i = 0; i < d->nr_mem; i++) {
        *pfn = d->mem[(start + i) % d->nr_mem];
        if (is_data(d, *pfn))
            return 0;
    }
    return -ENOMEM;
}

/* The data page the guest writes to next: any, or one of its hot ones. */
int st_pick_data(struct st_domain *d, uint64_t *pfn)
{
    uint64_t hot = d->kernel->config.hot;

    if (!hot || hot >= d->nr_mem)
        return any_data(d, pfn);
    for (unsigned attempt = 0; attempt < 16; attempt++) {
        *pfn = d->mem[(d->kernel->hot_first + st_below(&d->kernel->rng, hot)) % d->nr_mem];
        if (is_data(d, *pfn))
            return 0;
    }
    return any_data(d, pfn);
}

/* Tables in a row: as a guest's that were made when nothing else was there yet. */
static int next_data(struct st_domain *d, uint64_t *pfn)
{
    while (d->kernel->next_packed < d->nr_mem) {
        *pfn = d->mem[d->kernel->next_packed++];
        if (is_data(d, *pfn))
            return 0;
    }
    return any_data(d, pfn);
}

/* Puts a data page to another use. Its content stays until its new owner writes it. */
int st_take_data(struct st_domain *d, enum st_kind kind, uint64_t *pfn)
{
    if (d->kernel->config.packed && !d->built ? next_data(d, pfn) : any_data(d, pfn))
        return st_error(ENOMEM, "the guest has no data page left to use for its tables");
    if (d->built && d->kernel->kind->lose_page)
        d->kernel->kind->lose_page(d, *pfn);
    st.frames[d->truth[*pfn]].kind = (uint8_t)kind;
    return 0;
}

/* Every word is one that no other page of any guest has, and no other place of this page. */
void st_fill_data(struct st_domain *d, uint64_t pfn)
{
    uint64_t *page = st_guest_page(d, pfn);
    uint64_t mark = st_hash(d->kernel->config.seed ^ ((uint64_t)d->id << 48), pfn);

    for (unsigned i = 0; i < ST_ENTRIES; i++)
        page[i] = mark + i;
}

/* What another owner left there. Like Xen's scrubbing it is nobody's write: it is in no dirty bitmap. */
void st_fill_anew(struct st_domain *d, uint64_t pfn)
{
    uint64_t *page = st_guest_page(d, pfn);
    uint64_t mark = st_hash(d->kernel->config.seed ^ ((uint64_t)d->id << 48), pfn ^ ++d->kernel->ballooned << 40);

    for (unsigned i = 0; i < ST_ENTRIES; i++)
        page[i] = mark + i;
}
