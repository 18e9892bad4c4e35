/* Frames of a guest, mapped read-only or copied. */
#include "xen/handle.h"

#include <sys/mman.h>

static void *map_frames(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *mfns)
{
    _Static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t), "a 64-bit toolstack is required");
    return xenforeignmemory_map(h->fmem, domid, PROT_READ, nr, (const xen_pfn_t *)mfns, NULL);
}

int xcsr_map(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *mfns, void **out)
{
    XCSR_ENTER(h);
    *out = map_frames(h, domid, nr, mfns);
    if (*out)
        return 0;
    int err = errno;
    h->error.mfn = nr ? mfns[0] : 0;
    return xcsr_fail_call(h, err, "xenforeignmemory_map", "cannot map %llu frames of domain %u from mfn %#llx on",
                          (unsigned long long)nr, domid, (unsigned long long)h->error.mfn);
}

int xcsr_unmap(xcsr *h, void *addr, uint64_t nr)
{
    XCSR_ENTER(h);
    if (xenforeignmemory_unmap(h->fmem, addr, nr))
        return xcsr_fail_call(h, errno, "xenforeignmemory_unmap", "cannot unmap %llu frames",
                              (unsigned long long)nr);
    return 0;
}

int xcsr_read_frames(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *mfns, void *out)
{
    void *at = NULL;
    int rc = xcsr_map(h, domid, nr, mfns, &at);
    if (rc)
        return rc;
    memcpy(out, at, nr * XCSR_PAGE);
    return xcsr_unmap(h, at, nr);
}

uint64_t xcsr_load64(const void *addr)
{
    return __atomic_load_n((const uint64_t *)addr, __ATOMIC_ACQUIRE);
}
