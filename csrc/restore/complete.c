/* What comes after the last page: are the tables whole, pinning them, the guest's own p2m. */
#include "restore/complaint.h"
#include "restore/tables.h"
#include "restore/walk.h"

#include <sys/mman.h>

/* The hardware of the saved guest's host had lost it: the guest still has the page, and its tables name it. */
static bool is_broken(const xcsr_restore *r, uint64_t pfn)
{
    return restore_has_memory(r, pfn) && xcsr_restore_type(r, pfn) == TYPE_BROKEN;
}

static void check_target(xcsr_restore *r, uint64_t table, uint32_t level, uint32_t index, uint64_t target, uint64_t *missing)
{
    if (target != XCSR_INVALID && (r->flags[target] & FLAG_DATA || (level == 1 && is_broken(r, target))))
        return;
    if (!(*missing)++)
        restore_stream_error(r, table, target, level, index, "refers to memory that the stream does not contain:");
}

static int check_tables(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *missing)
{
    return tables_targets(r, pfns, nr, check_target, missing);
}

int xcsr_restore_check_tables(xcsr_restore *r, uint64_t *missing)
{
    XCSR_ENTER(r->h);
    *missing = 0;
    int rc = walk_batches(r, tables_wanted, check_tables, missing);
    return !rc && *missing ? -ENOENT : rc; /* the first one stands in the error record */
}

static int clear(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *cleared)
{
    if (!*cleared)
        r->first_broken = pfns[0];
    char *at = tables_map(r, pfns, nr, PROT_READ | PROT_WRITE);
    if (!at)
        return -r->h->error.err;
    memset(at, 0, (size_t)nr * XCSR_PAGE);
    xenforeignmemory_unmap(r->h->fmem, at, nr);
    *cleared += nr;
    return 0;
}

int xcsr_restore_clear_broken(xcsr_restore *r, uint64_t *cleared, uint64_t *first)
{
    XCSR_ENTER(r->h);
    *cleared = 0;
    r->first_broken = XCSR_INVALID;
    int rc = r->translated ? 0 : walk_batches(r, is_broken, clear, cleared);
    *first = r->first_broken;
    return rc;
}

static bool is_pinned(const xcsr_restore *r, uint64_t pfn)
{
    uint8_t flags = r->flags[pfn];
    return (flags & FLAG_DATA) && (flags & FLAG_TYPE) > 8;
}

static int pin(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *pinned)
{
    static const unsigned int op[] = {MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE};
    struct mmuext_op ops[XCSR_BATCH];
    memset(ops, 0, sizeof ops);
    for (uint32_t i = 0; i < nr; i++) {
        ops[i].cmd = op[(r->flags[pfns[i]] & FLAG_TYPE & 7) - 1];
        ops[i].arg1.mfn = restore_frame(r, pfns[i]);
    }
    if (xc_mmuext_op(r->h->xch, ops, nr, r->domid)) {
        r->h->error.pfn = pfns[0];
        return xcsr_fail_call(r->h, errno, "xc_mmuext_op", "cannot pin %u page tables of domain %u from pfn %#llx on", nr,
                              r->domid, (unsigned long long)pfns[0]);
    }
    *pinned += nr;
    return 0;
}

int xcsr_restore_pin(xcsr_restore *r, uint64_t *pinned)
{
    XCSR_ENTER(r->h);
    *pinned = 0;
    return walk_batches(r, is_pinned, pin, pinned);
}

/* A pfn whose last entry had no data has no memory: it was given back. */
static void fill_leaf(const xcsr_restore *r, char *leaf, uint64_t first)
{
    for (uint64_t i = 0; i < r->geometry->per_leaf && first + i < r->nr_pfns; i++)
        pt_put(r->geometry, leaf + i * r->geometry->width, xcsr_restore_mfn(r, first + i));
}

int xcsr_restore_write_p2m(xcsr_restore *r, const uint64_t *leaf_pfns, uint64_t nr_leaves)
{
    XCSR_ENTER(r->h);
    if (r->translated)
        return xcsr_fail_call(r->h, EINVAL, "xcsr_restore_write_p2m", "domain %u has no p2m of its own to write", r->domid);
    for (uint64_t done = 0; done < nr_leaves;) {
        uint32_t nr = nr_leaves - done < XCSR_BATCH ? (uint32_t)(nr_leaves - done) : XCSR_BATCH;
        char *at = tables_map(r, leaf_pfns + done, nr, PROT_READ | PROT_WRITE);
        if (!at)
            return -r->h->error.err;
        for (uint32_t i = 0; i < nr; i++)
            fill_leaf(r, at + (size_t)i * XCSR_PAGE, (done + i) * r->geometry->per_leaf);
        xenforeignmemory_unmap(r->h->fmem, at, nr);
        done += nr;
    }
    return 0;
}
