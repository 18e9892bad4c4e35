/* A first pass brings a guest's pages in a row. Records end anywhere, also within a run of 512 pfns that Xen could give as
 * one page of 2 MiB. So a row that has gone on for a record gets memory ahead: whole extents, many in a call, as much again
 * as the row has had so far, up to MOST_AHEAD. As soon as the row ends, or Xen refuses memory for a pfn of the stream, what is
 * ahead is taken back, and the restore goes on as if it had never been given. No more is asked for ahead than the domain may
 * still have.
 *
 * Below 4 GiB there are gfns that are no memory, such as the local APIC's page, and Xen kills a domain for which one of these
 * is populated. They are where a PC has its devices; there nothing is given beyond the extent that the row's last pfn is in.
 * What is memory ends where an extent ends, or there is nothing else in the rest of that extent.
 *
 * Not for PV guests: their page tables come early and refer to most of the memory, in whatever order, so that it has been
 * given page table by page table before a row comes to it (localise.c). */
#include "restore/row.h"
#include "restore/populate.h"
#include "restore/walk.h"
#include "xen/domain.h"

#define EXTENT_ORDER 9u
#define EXTENT (1ull << EXTENT_ORDER)
#define LONG (2 * EXTENT - 2) /* pfns in a row from which on it is worth it: a full record */
#define MOST_AHEAD (128 * EXTENT)
#define DEVICES 0xf0000ull /* from here to 4 GiB */
#define DEVICES_END 0x100000ull

static bool is_row(const uint64_t *pfns, uint32_t nr)
{
    uint64_t differ = 0;
    for (uint32_t i = 1; i < nr; i++)
        differ |= pfns[i] ^ (pfns[0] + i);
    return nr && !differ;
}

static uint64_t down(uint64_t pfn)
{
    return pfn / EXTENT * EXTENT;
}

static uint64_t up(uint64_t pfn)
{
    return down(pfn + EXTENT - 1);
}

/* Where extents from first on must end: at the first pfn of which anything is known. */
static uint64_t end_of_unknown(const xcsr_restore *r, uint64_t first, uint64_t end)
{
    uint64_t pfn = first;
    while (pfn < end && !r->flags[pfn])
        pfn++;
    return down(pfn);
}

/* Whatever Xen refuses is no error: single pages are asked for then, and no row gets memory ahead any more. */
static void give(xcsr_restore *r, uint64_t first, uint64_t end)
{
    xen_pfn_t extents[MOST_AHEAD / EXTENT + XCSR_BATCH / EXTENT + 1];
    uint64_t nr = (end - first) / EXTENT;
    for (uint64_t k = 0; k < nr; k++)
        extents[k] = first + k * EXTENT;
    int done = xc_domain_populate_physmap(r->h->xch, r->domid, nr, EXTENT_ORDER, 0, extents);
    r->h->log.last[0] = 0; /* what was said of large pages says nothing of the small ones */
    uint64_t got = done < 0 ? 0 : (uint64_t)done;
    r->without_rows |= got < nr;
    memset(r->flags + first, FLAGS_AHEAD, got * EXTENT);
    r->row.ahead_end = first + got * EXTENT;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How far ahead of `needed`, the end of the row's last extent. */
static uint64_t reach(const xcsr_restore *r, uint64_t needed)
{
    uint64_t end = needed + down(least(r->row.length, MOST_AHEAD));
    if (needed > DEVICES && needed <= DEVICES_END)
        return needed;
    return needed <= DEVICES ? least(end, DEVICES) : end;
}

/* How many pages the domain may still have; 0: not known. */
static uint64_t room(xcsr_restore *r)
{
    xcsr_domain now;
    if (domain_ask(r->h, r->domid, &now)) {
        xcsr_fresh(r->h); /* nothing is given ahead then; that is no error, and none of a later step's */
        return 0;
    }
    return now.tot_pages > now.max_pages ? 0 : now.max_pages - now.tot_pages;
}

static void go_on(xcsr_restore *r, uint64_t from)
{
    uint64_t first = up(from > r->row.ahead_end ? from : r->row.ahead_end), needed = up(r->row.next);
    if (r->row.next <= first || r->row.length < LONG)
        return;
    uint64_t end = reach(r, needed);
    if (end > needed)
        end = least(end, first + down(room(r)));
    if (end < needed)
        end = needed;
    end = end_of_unknown(r, first, least(end, r->limit));
    if (end > first)
        give(r, first, end);
}

/* There is no row any more: takes back what is ahead. */
static int row_end(xcsr_restore *r)
{
    uint64_t given = 0;
    int rc = restore_take_ahead(r, &given);
    r->row.next = XCSR_INVALID;
    r->row.length = r->row.ahead_end = 0;
    return rc;
}

int row_next(xcsr_restore *r, const uint64_t *pfns, uint32_t nr, bool whole)
{
    if (!r->translated || (r->without_rows && r->row.ahead_end <= r->row.next))
        return 0;
    bool row = whole && is_row(pfns, nr);
    int rc = row && pfns[0] == r->row.next ? 0 : row_end(r);
    if (rc || !row)
        return rc;
    r->row.next = pfns[0] + nr;
    r->row.length += nr;
    if (!r->without_rows)
        go_on(r, pfns[0]);
    return 0;
}

int xcsr_restore_without_rows(xcsr_restore *r)
{
    XCSR_ENTER(r->h);
    r->without_rows = true;
    return 0;
}

/* -- taken back at the end */

int xcsr_restore_give_back(xcsr_restore *r, uint64_t *given)
{
    XCSR_ENTER(r->h);
    *given = 0;
    int rc = row_end(r);
    return rc ? rc : walk_batches(r, restore_is_gone, restore_take_back, given);
}
