/* Page tables are copied before they are sent, so a batch of nothing else would need room for all of its pages: 4 MiB, in a
 * guest that needs a few bytes for a page otherwise. Tables are a page in 512 of a guest, but may lie in a row. So a batch
 * ends before the first table too many, and the next one begins with it. */
#include "save/tables.h"
#include "xen/page_types.h"
#include "xen/table_row.h"

/* Lists the tables. The index in frames[] of the first one too many; nr_frames: there is none. */
static uint32_t list_tables(struct batch *b)
{
    for (uint32_t k = 0; k < b->nr_frames;) {
        if (row_may_begin(k, b->nr_frames) && !(row_any(b->types + k) & 7)) {
            k += ROW;
            continue;
        }
        bool is_table = table_level((uint32_t)b->types[k]);
        if (is_table && b->nr_tables == TABLES_AT_ONCE)
            return k;
        if (is_table)
            b->tables[b->nr_tables++] = (uint16_t)slot_of(b, k);
        k++;
    }
    return b->nr_frames;
}

/* Those behind the cut that have no frame were counted by now, and will be again. */
static void forget_counts(const xcsr_save *s, struct batch *b, uint32_t k)
{
    for (uint32_t i = slot_of(b, k); i < b->nr; i++) {
        if (k < b->nr_frames && slot_of(b, k) == i) {
            k++;
            continue;
        }
        bool is_hole = !sparse_has(&s->deferred, b->pfns[i]);
        b->result.nr_holes -= is_hole;
        b->result.nr_deferred -= !is_hole;
    }
}

void tables_fit(xcsr_save *s, struct batch *b)
{
    b->nr_tables = 0;
    uint32_t k = s->p2m ? list_tables(b) : b->nr_frames;
    if (k == b->nr_frames)
        return;
    uint32_t nr = slot_of(b, k);
    forget_counts(s, b, k);
    b->result.nr_pfns -= b->nr - nr;
    s->cursor = b->next_pfn = b->pfns[nr];
    b->nr = nr;
    b->nr_frames = k;
}
