/* What is wrong with a stream: see complaint.h. */
#include "restore/complaint.h"

int restore_stream_error(xcsr_restore *r, uint64_t pfn, uint64_t target, uint32_t level, uint32_t index, const char *text)
{
    xcsr_error *e = &r->h->error;
    e->pfn = pfn;
    e->mfn = target;
    e->level = level;
    e->index = index;
    if (level)
        return xcsr_fail(e, XCSR_E_STREAM, ERANGE, "PAGE_DATA", "entry %u of the level %u page table at pfn %#llx %s pfn %#llx",
                         index, level, (unsigned long long)pfn, text, (unsigned long long)target);
    return xcsr_fail(e, XCSR_E_STREAM, ERANGE, "PAGE_DATA", "pfn %#llx %s", (unsigned long long)pfn, text);
}
