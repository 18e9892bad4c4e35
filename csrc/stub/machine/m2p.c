/* The m2p: its own frames, and the calls that tell where they are. */
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/m2p.h"

#include <sys/mman.h>

#define CHUNK_FRAMES  512UL                     /* of the m2p: 2 MiB */
#define CHUNK_BYTES   (CHUNK_FRAMES * ST_PAGE_SIZE)

/* Frame of a table's chunk: in reverse order, so that chunks are not neighbours by chance. */
static uint64_t chunk_mfn(const struct st_m2p_place *p, uint64_t chunk)
{
    return p->first + (p->chunks - 1 - chunk) * CHUNK_FRAMES;
}

static struct st_m2p_place place(uint64_t first, uint64_t nr_bytes)
{
    return (struct st_m2p_place){ first, (nr_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES };
}

uint64_t st_m2p_place(uint64_t first)
{
    uint64_t compat = st.nr_frames < ST_MAX_COMPAT_FRAMES ? st.nr_frames : ST_MAX_COMPAT_FRAMES;

    st.m2p_place = place(first, st.nr_frames * sizeof(*st.m2p));
    first += st.m2p_place.chunks * CHUNK_FRAMES;
    st.compat_m2p_place = st.pv32 ? place(first, compat * sizeof(*st.compat_m2p)) : (struct st_m2p_place){ first, 0 };
    return first + st.compat_m2p_place.chunks * CHUNK_FRAMES;
}

static void *map_chunks(const struct st_m2p_place *p)
{
    uint8_t *table = st_reserve(p->chunks * CHUNK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

    for (uint64_t chunk = 0; table && chunk < p->chunks; chunk++)
        if (mmap(table + chunk * CHUNK_BYTES, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, st.fd,
                 (off_t)(chunk_mfn(p, chunk) << ST_PAGE_SHIFT)) == MAP_FAILED) {
            munmap(table, p->chunks * CHUNK_BYTES);
            return NULL;
        }
    return table;
}

int st_m2p_map(void)
{
    st.m2p = map_chunks(&st.m2p_place);
    if (!st.m2p)
        return -ENOMEM;
    if (st.compat_m2p_place.chunks) {
        st.compat_m2p = map_chunks(&st.compat_m2p_place);
        if (!st.compat_m2p)
            return -ENOMEM;
    }
    st_m2p_clear();
    return 0;
}

void st_m2p_clear(void)
{
    memset(st.m2p, 0xff, st.m2p_place.chunks * CHUNK_BYTES);
    if (st.compat_m2p)
        memset(st.compat_m2p, 0xff, st.compat_m2p_place.chunks * CHUNK_BYTES);
}

void st_m2p_unmap(void)
{
    if (st.m2p)
        munmap(st.m2p, st.m2p_place.chunks * CHUNK_BYTES);
    if (st.compat_m2p)
        munmap(st.compat_m2p, st.compat_m2p_place.chunks * CHUNK_BYTES);
}

void st_m2p_set(uint64_t mfn, uint64_t pfn)
{
    st.m2p[mfn] = pfn;
    if (st.compat_m2p && mfn < ST_MAX_COMPAT_FRAMES)
        st.compat_m2p[mfn] = (uint32_t)pfn;
}

uint64_t st_compat_m2p_mfn(uint64_t chunk)
{
    return chunk < st.compat_m2p_place.chunks ? chunk_mfn(&st.compat_m2p_place, chunk) : ST_NONE;
}

uint64_t st_m2p_room(void)
{
    return st.m2p_place.chunks * CHUNK_BYTES / sizeof(*st.m2p) - st.nr_frames;
}

int xc_maximum_ram_page(xc_interface *xch, unsigned long *max_mfn)
{
    int rc = st_begin_xc(ST_FN_xc_maximum_ram_page, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_maximum_ram_page, xch, rc);
    *max_mfn = st.nr_frames + st.added;
    return (int)st_end(ST_FN_xc_maximum_ram_page, xch, 0);
}

/* Returns how many were written. */
static uint64_t list_chunks(const struct st_m2p_place *p, uint64_t max_extents, xen_pfn_t *extent_start)
{
    uint64_t chunk;

    for (chunk = 0; chunk < max_extents && chunk < p->chunks; chunk++)
        extent_start[chunk] = chunk_mfn(p, chunk);
    return chunk;
}

/* Asked for more chunks than there are, libxenctrl fails although the hypercall did not. */
int xc_machphys_mfn_list(xc_interface *xch, unsigned long max_extents, xen_pfn_t *extent_start)
{
    int rc = st_begin_xc(ST_FN_xc_machphys_mfn_list, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_machphys_mfn_list, xch, rc);
    if (list_chunks(&st.m2p_place, max_extents, extent_start) < max_extents)
        rc = -EINVAL;
    return (int)st_end(ST_FN_xc_machphys_mfn_list, xch, rc);
}

static int memory_op(unsigned cmd, void *arg, size_t len)
{
    struct xen_machphys_mfn_list *list = arg;

    if (cmd != XENMEM_machphys_compat_mfn_list)
        return -ENOSYS;
    if (!st.pv32)
        return -EOPNOTSUPP;
    if (len < sizeof(*list))
        return -EFAULT;
    list->nr_extents = (unsigned)list_chunks(&st.compat_m2p_place, list->max_extents, list->extent_start.p);
    return 0;
}

/* The library bounces the argument, but not what that points to. */
long xc_memory_op(xc_interface *xch, unsigned int cmd, void *arg, size_t len)
{
    int rc = st_begin_xc(ST_FN_xc_memory_op, xch);

    if (rc)
        return (long)st_refused(ST_FN_xc_memory_op, xch, rc);
    return (long)st_end(ST_FN_xc_memory_op, xch, memory_op(cmd, arg, len));
}
