/* What is known of a pfn. */
#include "restore/session.h"

uint64_t xcsr_restore_nr_pfns(const xcsr_restore *r)
{
    return r->nr_pfns;
}

uint64_t xcsr_restore_mfn(const xcsr_restore *r, uint64_t pfn)
{
    return pfn < r->nr_pfns && restore_has_memory(r, pfn) ? restore_frame(r, pfn) : XCSR_INVALID;
}

uint32_t xcsr_restore_type(const xcsr_restore *r, uint64_t pfn)
{
    return pfn < r->nr_pfns && r->flags[pfn] & FLAG_SEEN ? r->flags[pfn] & FLAG_TYPE : TYPE_XTAB;
}

uint32_t xcsr_restore_has_data(const xcsr_restore *r, uint64_t pfn)
{
    return pfn < r->nr_pfns && r->flags[pfn] & FLAG_DATA;
}
