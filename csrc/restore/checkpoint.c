/* Memory taken back between the checkpoints of one stream. Page tables in it name frames, and a frame that was taken may be
 * given again, for another pfn: a table that named it before would name the wrong page then, and nobody could tell. So
 * what a table names is kept. In the stream of a whole guest no table names a page that is gone; but libxenguest calls a
 * table gone that it could not express just then, and sends it again later, and not the tables that name it. */
#include "restore/populate.h"
#include "restore/tables.h"
#include "restore/walk.h"

/* -- what is to go */

/* A table that will come is not asked what it names now: until it has come it does not count as one with data. */
static void foretell(xcsr_restore *r, uint64_t pfn, uint32_t type)
{
    if (type == TYPE_XTAB || type == TYPE_BROKEN)
        r->flags[pfn] |= FLAG_GOING;
    else
        r->flags[pfn] &= (uint8_t)~(type == TYPE_XALLOC ? FLAG_GOING : FLAG_GOING | FLAG_DATA);
}

int xcsr_restore_foretell(xcsr_restore *r, const uint64_t *entries, uint64_t nr)
{
    XCSR_ENTER(r->h);
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t pfn = entries[i] & ENTRY_PFN;
        if (pfn < r->nr_pfns && restore_has_memory(r, pfn))
            foretell(r, pfn, (uint32_t)(entries[i] >> TYPE_SHIFT));
    }
    return 0;
}

static int mark_gone(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *marked)
{
    for (uint32_t i = 0; i < nr; i++)
        r->flags[pfns[i]] |= FLAG_GOING;
    *marked += nr;
    return 0;
}

/* -- it goes */

static bool is_going(const xcsr_restore *r, uint64_t pfn)
{
    return r->flags[pfn] & FLAG_GOING;
}

static void keep(xcsr_restore *r, uint64_t table, uint32_t level, uint32_t index, uint64_t target, uint64_t *kept)
{
    (void)table, (void)level, (void)index;
    if (target == XCSR_INVALID || !is_going(r, target))
        return;
    r->flags[target] &= (uint8_t)~FLAG_GOING;
    ++*kept;
}

static int keep_named(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *kept)
{
    return tables_targets(r, pfns, nr, keep, kept);
}

static int count_going(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *going)
{
    (void)r, (void)pfns;
    *going += nr;
    return 0;
}

static int give_going(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, uint64_t *given)
{
    for (uint32_t i = 0; i < nr; i++)
        r->flags[pfns[i]] &= (uint8_t)~FLAG_GOING;
    return restore_take_back(r, pfns, nr, given);
}

/* going: how many are marked. */
static int let_go(xcsr_restore *r, uint64_t going, uint64_t *given)
{
    uint64_t kept = 0;
    int rc = going && !r->translated ? walk_batches(r, tables_wanted, keep_named, &kept) : 0;
    return rc || !going ? rc : walk_batches(r, is_going, give_going, given);
}

int xcsr_restore_make_room(xcsr_restore *r, uint64_t *given)
{
    XCSR_ENTER(r->h);
    uint64_t going = 0;
    *given = 0;
    int rc = walk_batches(r, is_going, count_going, &going);
    return rc ? rc : let_go(r, going, given);
}

int xcsr_restore_give_unnamed(xcsr_restore *r, uint64_t *given)
{
    XCSR_ENTER(r->h);
    uint64_t gone = 0;
    *given = 0;
    int rc = walk_batches(r, restore_is_gone, mark_gone, &gone);
    return rc ? rc : let_go(r, gone, given);
}
