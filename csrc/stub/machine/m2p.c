/* The m2p: its own frames, and the calls that tell where they are. */
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/m2p.h"

#include <sys/mman.h>

#define CHUNK_FRAMES  512UL                     /* of the m2p: 2 MiB */

uint64_t st_m2p_bytes(void)
{
    return st.m2p_chunks * CHUNK_FRAMES * ST_PAGE_SIZE;
}

/* Frame of the m2p's chunk: in reverse order, so that chunks are not neighbours by chance. */
static uint64_t m2p_chunk_mfn(uint64_t chunk)
{
    return st.m2p_first + (st.m2p_chunks - 1 - chunk) * CHUNK_FRAMES;
}

int st_m2p_map(void)
{
    const uint64_t chunk_bytes = CHUNK_FRAMES * ST_PAGE_SIZE;

    st.m2p = st_reserve(st_m2p_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!st.m2p)
        return -ENOMEM;
    for (uint64_t chunk = 0; chunk < st.m2p_chunks; chunk++) {
        uint8_t *at = (uint8_t *)st.m2p + chunk * chunk_bytes;

        if (mmap(at, chunk_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, st.fd,
                 (off_t)(m2p_chunk_mfn(chunk) << ST_PAGE_SHIFT)) == MAP_FAILED)
            return -ENOMEM;
    }
    memset(st.m2p, 0xff, st_m2p_bytes());
    return 0;
}

int xc_maximum_ram_page(xc_interface *xch, unsigned long *max_mfn)
{
    int rc = st_begin_xc(ST_FN_xc_maximum_ram_page, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_maximum_ram_page, xch, rc);
    *max_mfn = st.nr_frames;
    return (int)st_end(ST_FN_xc_maximum_ram_page, xch, 0);
}

/* Asked for more chunks than there are, libxenctrl fails although the hypercall did not. */
static int list_m2p_chunks(unsigned long max_extents, xen_pfn_t *extent_start)
{
    for (uint64_t chunk = 0; chunk < max_extents && chunk < st.m2p_chunks; chunk++)
        extent_start[chunk] = m2p_chunk_mfn(chunk);
    return max_extents > st.m2p_chunks ? -EINVAL : 0;
}

int xc_machphys_mfn_list(xc_interface *xch, unsigned long max_extents, xen_pfn_t *extent_start)
{
    int rc = st_begin_xc(ST_FN_xc_machphys_mfn_list, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_machphys_mfn_list, xch, rc);
    return (int)st_end(ST_FN_xc_machphys_mfn_list, xch, list_m2p_chunks(max_extents, extent_start));
}

long xc_memory_op(xc_interface *xch, unsigned int cmd, void *arg, size_t len)
{
    (void)xch, (void)cmd, (void)arg, (void)len;
    errno = ENOSYS;
    return -1;
}
