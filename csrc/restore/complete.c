/* What comes after the last page: are the tables whole, pinning them, the guest's own p2m. */
#include "restore/complaint.h"
#include "restore/walk.h"

#include <sys/mman.h>

static bool is_table(const xcsr_restore *r, uint64_t pfn)
{
    uint8_t flags = r->flags[pfn];
    return (flags & FLAG_DATA) && (flags & FLAG_TYPE & 7);
}

static void *map_pfns(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, int prot)
{
    for (uint32_t i = 0; i < nr; i++)
        r->frames[i] = restore_frame(r, pfns[i]);
    void *at = xenforeignmemory_map(r->h->fmem, r->domid, prot, nr, r->frames, NULL);
    if (!at)
        xcsr_fail_call(r->h, errno, "xenforeignmemory_map", "cannot map %u frames of domain %u", nr, r->domid);
    return at;
}

/* The pfn of a frame that we gave the domain. */
static uint64_t pfn_of(const xcsr_restore *r, uint64_t mfn)
{
    uint64_t pfn = mfn < r->h->nr_mfns ? xcsr_load(&r->h->m2p[mfn]) : XCSR_INVALID;
    return pfn < r->nr_pfns && restore_has_memory(r, pfn) && restore_frame(r, pfn) == mfn ? pfn : XCSR_INVALID;
}

static void check_table(xcsr_restore *r, uint64_t pfn, const uint64_t *table, uint64_t *missing)
{
    uint32_t level = r->flags[pfn] & FLAG_TYPE & 7;
    for (uint32_t i = 0; i < PTE_PER_TABLE; i++) {
        if (!(table[i] & PTE_PRESENT) || pt_is_xens(r->geometry, level, i))
            continue;
        uint64_t target = pfn_of(r, pte_frame(table[i]));
        if (target != XCSR_INVALID && r->flags[target] & FLAG_DATA)
            continue;
        if (!(*missing)++)
            restore_stream_error(r, pfn, target, level, i, "refers to memory that the stream does not contain:");
    }
}

static int check_tables(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *missing)
{
    char *at = map_pfns(r, pfns, nr, PROT_READ);
    if (!at)
        return -r->h->error.err;
    for (uint32_t i = 0; i < nr; i++)
        check_table(r, pfns[i], (const uint64_t *)(const void *)(at + (size_t)i * XCSR_PAGE), missing);
    xenforeignmemory_unmap(r->h->fmem, at, nr);
    return 0;
}

int xcsr_restore_check_tables(xcsr_restore *r, uint64_t *missing)
{
    XCSR_ENTER(r->h);
    *missing = 0;
    int rc = walk_batches(r, is_table, check_tables, missing);
    return !rc && *missing ? -ENOENT : rc; /* the first one stands in the error record */
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
        char *at = map_pfns(r, leaf_pfns + done, nr, PROT_READ | PROT_WRITE);
        if (!at)
            return -r->h->error.err;
        for (uint32_t i = 0; i < nr; i++)
            fill_leaf(r, at + (size_t)i * XCSR_PAGE, (done + i) * r->geometry->per_leaf);
        xenforeignmemory_unmap(r->h->fmem, at, nr);
        done += nr;
    }
    return 0;
}
