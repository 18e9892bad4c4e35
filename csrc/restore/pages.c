/* PAGE_DATA into a guest: the record is read in three steps (head, entries, pages), each of which
 * may be interrupted and gone on with. Nothing that the record says is used before it is checked. */
#include "restore/pages.h"
#include "restore/complaint.h"
#include "restore/localise.h"
#include "restore/populate.h"
#include "restore/row.h"
#include "io/source.h"

#include <stdlib.h>
#include <sys/mman.h>

void pages_drop(xcsr_restore *r)
{
    if (r->map)
        xenforeignmemory_unmap(r->h->fmem, r->map, r->nr_pages);
    r->map = NULL;
    r->reading = false;
}

static bool has_data(uint32_t type)
{
    return type < TYPE_BROKEN;
}

static bool is_known(uint32_t type)
{
    return type <= 4 || type >= 9;
}

/* -- head */

static int check_head(xcsr_restore *r, uint64_t length)
{
    uint64_t count = r->head.count;
    if (!count || 8 + count * 8 > length)
        return xcsr_fail(&r->h->error, XCSR_E_STREAM, EINVAL, "PAGE_DATA", "a record of %llu bytes cannot have %llu entries",
                         (unsigned long long)length, (unsigned long long)count);
    uint64_t most = r->translated ? r->limit : r->nr_pfns; /* one for each pfn: memory for them is bounded by the domain */
    if (count > most)
        return xcsr_fail(&r->h->error, XCSR_E_STREAM, EINVAL, "PAGE_DATA", "%llu entries for a guest of %llu pfns",
                         (unsigned long long)count, (unsigned long long)most);
    if (count > r->nr_room) {
        free(r->entries);
        r->entries = malloc(count * sizeof *r->entries);
        r->nr_room = r->entries ? count : 0;
        if (!r->entries)
            return xcsr_fail_call(r->h, ENOMEM, "malloc", "no memory for a record's %llu entries", (unsigned long long)count);
    }
    return 0;
}

/* -- entries */

static void unlist(xcsr_restore *r, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++)
        r->flags[r->entries[i] & ENTRY_PFN] &= (uint8_t)~FLAG_LISTED;
}

/* There is no p2m whose size the stream could tell: the domain's limit is all that bounds a gfn. */
static int check_gfn(xcsr_restore *r, uint64_t pfn, uint32_t type)
{
    if (pfn >= r->limit)
        return restore_stream_error(r, pfn, 0, 0, 0, "is beyond all memory that the domain can have");
    if (type && type < TYPE_BROKEN) {
        r->h->error.type = type;
        return restore_stream_error(r, pfn, 0, 0, 0, "is called a page table, which only PV guests' pages are");
    }
    if (pfn >= r->nr_pfns)
        r->nr_pfns = pfn + 1;
    return 0;
}

static int check_entry(xcsr_restore *r, uint64_t entry)
{
    uint64_t pfn = entry & ENTRY_PFN;
    uint32_t type = (uint32_t)(entry >> TYPE_SHIFT);
    if (entry & ~ENTRY_PFN & ((1ull << TYPE_SHIFT) - 1))
        return restore_stream_error(r, pfn, 0, 0, 0, "has reserved bits set in its entry");
    if (!is_known(type)) {
        r->h->error.type = type;
        return restore_stream_error(r, pfn, 0, 0, 0, "has a page type that does not exist");
    }
    if (!r->translated && pfn >= r->nr_pfns)
        return restore_stream_error(r, pfn, 0, 0, 0, "is beyond the end of the p2m");
    int rc = r->translated ? check_gfn(r, pfn, type) : 0;
    if (rc)
        return rc;
    if (r->flags[pfn] & FLAG_LISTED)
        return restore_stream_error(r, pfn, 0, 0, 0, "is listed twice in one record");
    return 0;
}

static int check_entries(xcsr_restore *r, uint64_t length)
{
    uint64_t pages = 0, i;
    int rc = 0;
    for (i = 0; i < r->head.count; i++) {
        rc = check_entry(r, r->entries[i]);
        if (rc)
            break;
        r->flags[r->entries[i] & ENTRY_PFN] |= FLAG_LISTED;
        pages += has_data((uint32_t)(r->entries[i] >> TYPE_SHIFT));
    }
    unlist(r, i);
    if (!rc && length != 8 + 8ull * r->head.count + pages * XCSR_PAGE)
        rc = xcsr_fail(&r->h->error, XCSR_E_STREAM, EINVAL, "PAGE_DATA", "a record of %llu bytes cannot have %u entries and %llu pages",
                       (unsigned long long)length, r->head.count, (unsigned long long)pages);
    return rc;
}

/* -- pages */

static int map_batch(xcsr_restore *r)
{
    for (uint32_t k = 0; k < r->nr_pages; k++)
        r->frames[k] = restore_frame(r, r->pfns[k]);
    memset(r->errs, 0, r->nr_pages * sizeof *r->errs);
    r->map = xenforeignmemory_map(r->h->fmem, r->domid, r->compare ? PROT_READ : PROT_READ | PROT_WRITE, r->nr_pages, r->frames,
                                  r->errs);
    if (!r->map)
        return xcsr_fail_call(r->h, errno, "xenforeignmemory_map", "cannot map %u frames of domain %u", r->nr_pages, r->domid);
    for (uint32_t k = 0; k < r->nr_pages; k++) {
        if (!r->errs[k])
            continue;
        r->h->error.pfn = r->pfns[k];
        r->h->error.mfn = r->frames[k];
        return xcsr_fail_call(r->h, abs(r->errs[k]), "xenforeignmemory_map", "cannot map pfn %#llx of domain %u",
                              (unsigned long long)r->pfns[k], r->domid);
    }
    return 0;
}

static void note_entries(xcsr_restore *r)
{
    for (uint32_t i = 0; i < r->nr && !r->compare; i++) {
        uint64_t entry = r->entries[r->at + i], pfn = entry & ENTRY_PFN;
        uint32_t type = (uint32_t)(entry >> TYPE_SHIFT);
        r->result.nr_populated += restore_is_ahead(r, pfn); /* only now, as if it were given now */
        restore_note(r, pfn, (uint8_t)(FLAG_SEEN | type | (has_data(type) ? FLAG_DATA : 0)));
    }
}

/* Takes up the next entries: gives them memory and maps those that have data. */
static int begin_batch(xcsr_restore *r)
{
    uint64_t wanted[XCSR_BATCH];
    uint32_t nr_wanted = 0;
    uint64_t left = r->head.count - r->at;
    r->nr = left < XCSR_BATCH ? (uint32_t)left : XCSR_BATCH;
    r->nr_pages = 0;
    for (uint32_t i = 0; i < r->nr; i++) {
        uint64_t entry = r->entries[r->at + i], pfn = entry & ENTRY_PFN;
        uint32_t type = (uint32_t)(entry >> TYPE_SHIFT);
        if (has_data(type) || type == TYPE_XALLOC)
            wanted[nr_wanted++] = pfn;
        if (has_data(type))
            r->pfns[r->nr_pages++] = pfn;
    }
    if (r->compare)
        for (uint32_t k = 0; k < r->nr_pages; k++)
            if (!restore_has_memory(r, r->pfns[k]) || restore_is_ahead(r, r->pfns[k]))
                return restore_stream_error(r, r->pfns[k], 0, 0, 0, "is to be compared, but was never sent");
    int rc = r->compare ? 0 : row_next(r, wanted, nr_wanted, nr_wanted == r->nr);
    if (rc)
        return rc;
    note_entries(r);
    rc = restore_populate(r, wanted, nr_wanted);
    if (!rc && r->nr_pages)
        rc = map_batch(r);
    r->iov.iov_base = r->compare ? r->bounce : r->map;
    r->iov.iov_len = (size_t)r->nr_pages * XCSR_PAGE;
    return rc;
}

static void compare_page(xcsr_restore *r, uint32_t k)
{
    if (!memcmp(r->bounce + (size_t)k * XCSR_PAGE, r->map + (size_t)k * XCSR_PAGE, XCSR_PAGE))
        return;
    if (!r->result.nr_differing++)
        r->result.first_differing = r->pfns[k];
}

static int finish_batch(xcsr_restore *r)
{
    uint32_t k = 0;
    char *got = r->compare ? r->bounce : r->map;
    for (uint32_t i = 0; i < r->nr; i++) {
        uint64_t entry = r->entries[r->at + i];
        if (!has_data((uint32_t)(entry >> TYPE_SHIFT)))
            continue;
        uint32_t level = table_level((uint32_t)(entry >> TYPE_SHIFT));
        if (level) {
            int rc = restore_localise(r, entry & ENTRY_PFN, level, (uint64_t *)(void *)(got + (size_t)k * XCSR_PAGE));
            if (rc)
                return rc;
            r->result.nr_tables++;
        }
        if (r->compare)
            compare_page(r, k);
        k++;
    }
    r->result.nr_pages += k;
    r->at += r->nr;
    return 0;
}

static int one_batch(xcsr_restore *r, xcsr_source *src)
{
    int rc;
    if (r->reading) {
        rc = source_go_on(src);
    } else {
        rc = begin_batch(r);
        if (rc)
            return rc;
        r->reading = true;
        rc = source_readv(src, &r->iov, r->nr_pages ? 1 : 0);
    }
    if (rc)
        return rc;
    r->reading = false;
    rc = finish_batch(r);
    pages_drop(r);
    return rc;
}

static int go_on(xcsr_restore *r, xcsr_source *src, uint64_t length)
{
    int rc = 0;
    if (r->step == STEP_HEAD) {
        rc = xcsr_source_read(src, &r->head, sizeof r->head);
        if (!rc)
            rc = check_head(r, length);
        if (rc)
            return rc;
        r->step = STEP_ENTRIES;
    }
    if (r->step == STEP_ENTRIES) {
        rc = xcsr_source_read(src, r->entries, 8ull * r->head.count);
        if (!rc)
            rc = check_entries(r, length);
        if (rc)
            return rc;
        r->step = STEP_PAGES;
        r->at = 0;
    }
    while (!rc && r->at < r->head.count)
        rc = one_batch(r, src);
    return rc;
}

int xcsr_restore_pages(xcsr_restore *r, xcsr_source *src, uint64_t length, xcsr_page_result *out)
{
    XCSR_ENTER(r->h);
    if (r->step == STEP_HEAD)
        memset(&r->result, 0, sizeof r->result);
    int rc = go_on(r, src, length);
    if (rc == XCSR_AGAIN)
        return rc;
    if (rc && !r->h->error.kind)
        r->h->error = *xcsr_source_error(src);
    pages_drop(r);
    r->step = STEP_HEAD;
    r->result.nr_entries = r->head.count;
    *out = r->result;
    return rc;
}
