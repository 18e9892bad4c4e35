/* Frames of a guest, mapped read-only, copied, or written to. */
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

uint32_t xcsr_load32(const void *addr)
{
    return __atomic_load_n((const uint32_t *)addr, __ATOMIC_ACQUIRE);
}

uint32_t xcsr_words_stay(const void *page, uint32_t nr, const xcsr_word *words)
{
    for (uint32_t i = 0; i < nr; i++) {
        const void *at = (const char *)page + words[i].offset;
        if ((words[i].size == sizeof(uint64_t) ? xcsr_load64(at) : xcsr_load32(at)) != words[i].value)
            return 0;
    }
    return 1;
}

int xcsr_write_frame(xcsr *h, uint32_t domid, uint64_t mfn, uint64_t offset, const void *data, size_t len)
{
    XCSR_ENTER(h);
    xen_pfn_t frame = mfn;
    if (offset > XCSR_PAGE || len > XCSR_PAGE - offset)
        return xcsr_fail_call(h, EINVAL, "xcsr_write_frame", "%zu bytes at %llu are not within a page", len,
                              (unsigned long long)offset);
    char *at = xenforeignmemory_map(h->fmem, domid, PROT_READ | PROT_WRITE, 1, &frame, NULL);
    if (!at)
        return xcsr_fail_call(h, errno, "xenforeignmemory_map", "cannot map mfn %#llx of domain %u for writing",
                              (unsigned long long)mfn, domid);
    memcpy(at + offset, data, len);
    if (xenforeignmemory_unmap(h->fmem, at, 1))
        return xcsr_fail_call(h, errno, "xenforeignmemory_unmap", "cannot unmap mfn %#llx", (unsigned long long)mfn);
    return 0;
}

int xcsr_clear_frames(xcsr *h, uint32_t domid, uint64_t nr, const uint64_t *frames)
{
    XCSR_ENTER(h);
    if (!nr)
        return 0;
    char *at = xenforeignmemory_map(h->fmem, domid, PROT_READ | PROT_WRITE, nr, (const xen_pfn_t *)frames, NULL);
    if (!at)
        return xcsr_fail_call(h, errno, "xenforeignmemory_map", "cannot map %llu frames of domain %u, from %#llx on, for clearing",
                              (unsigned long long)nr, domid, (unsigned long long)frames[0]);
    memset(at, 0, nr * XCSR_PAGE);
    if (xenforeignmemory_unmap(h->fmem, at, nr))
        return xcsr_fail_call(h, errno, "xenforeignmemory_unmap", "cannot unmap %llu frames", (unsigned long long)nr);
    return 0;
}
