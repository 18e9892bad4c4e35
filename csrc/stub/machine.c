/*
 * The machine: its memory is one sparse memfd, frame n at offset n * 4096. Frames below 1 MiB
 * are Xen's, then come the m2p's own frames in chunks of 2 MiB, then the pool that domains get
 * theirs from, in an order that a seed decides.
 */
#include "stub/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK_FRAMES  512UL                     /* of the m2p: 2 MiB */
#define LOW_FRAMES    CHUNK_FRAMES
#define DEFAULT_FRAMES (8UL << (30 - ST_PAGE_SHIFT))
#define MIN_FRAMES    4096UL
#define MAX_FRAMES    (1UL << 32)
#define SHARED_FRAMES (1UL << 16)               /* what frames without memory of their own share: 256 MiB */

struct st_machine st = { .fd = -1 };
stub_usage st_usage;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char error_text[256];

void st_lock(void)
{
    pthread_mutex_lock(&lock);
}

void st_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

int st_error(int error, const char *format, ...)
{
    va_list al;

    va_start(al, format);
    vsnprintf(error_text, sizeof(error_text), format, al);
    va_end(al);
    return -error;
}

const char *stub_error(void)
{
    return error_text;
}

void *st_page(uint64_t mfn)
{
    return st.window + (mfn << ST_PAGE_SHIFT);
}

off_t st_file_offset(uint64_t mfn)
{
    if (mfn >= st.backed)
        mfn = st.backed + (mfn - st.backed) % SHARED_FRAMES;
    return (off_t)(mfn << ST_PAGE_SHIFT);
}

size_t st_frames_in_a_row(const xen_pfn_t *frames, size_t max)
{
    off_t first = st_file_offset(frames[0]);
    size_t length = 1;

    while (length < max && frames[length] == frames[0] + length
           && st_file_offset(frames[length]) == first + (off_t)(length << ST_PAGE_SHIFT))
        length++;
    return length;
}

static uint64_t m2p_bytes(void)
{
    return st.m2p_chunks * CHUNK_FRAMES * ST_PAGE_SIZE;
}

static void unmap(void *address, uint64_t length)
{
    if (address)
        munmap(address, length);
}

static void machine_down(void)
{
    st_window_forget();
    unmap(st.window, st.nr_frames << ST_PAGE_SHIFT);
    unmap(st.m2p, m2p_bytes());
    unmap(st.frames, st.nr_frames * sizeof(*st.frames));
    if (st.fd >= 0)
        close(st.fd);
    free(st.freed);
    memset(&st, 0, sizeof(st));
    st.fd = -1;
}

static void *reserve(uint64_t length, int protection, int flags, int fd)
{
    void *address = mmap(NULL, length, protection, flags | MAP_NORESERVE, fd, 0);

    return address == MAP_FAILED ? NULL : address;
}

/* Frame of the m2p's chunk: in reverse order, so that chunks are not neighbours by chance. */
static uint64_t m2p_chunk_mfn(uint64_t chunk)
{
    return st.m2p_first + (st.m2p_chunks - 1 - chunk) * CHUNK_FRAMES;
}

static int map_m2p(void)
{
    const uint64_t chunk_bytes = CHUNK_FRAMES * ST_PAGE_SIZE;

    st.m2p = reserve(m2p_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!st.m2p)
        return -ENOMEM;
    for (uint64_t chunk = 0; chunk < st.m2p_chunks; chunk++) {
        uint8_t *at = (uint8_t *)st.m2p + chunk * chunk_bytes;

        if (mmap(at, chunk_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, st.fd,
                 (off_t)(m2p_chunk_mfn(chunk) << ST_PAGE_SHIFT)) == MAP_FAILED)
            return -ENOMEM;
    }
    memset(st.m2p, 0xff, m2p_bytes());
    return 0;
}

static uint64_t file_frames(void)
{
    return st.backed < st.nr_frames ? st.backed + SHARED_FRAMES : st.nr_frames;
}

/* Lays the memory that the rest of the frames share over the rest of the window, again and again. */
static int map_shared_frames(void)
{
    for (uint64_t mfn = st.backed; mfn < st.nr_frames; mfn += SHARED_FRAMES) {
        uint64_t left = st.nr_frames - mfn, count = left < SHARED_FRAMES ? left : SHARED_FRAMES;

        if (mmap(st_page(mfn), count << ST_PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, st.fd,
                 st_file_offset(mfn)) == MAP_FAILED)
            return -ENOMEM;
    }
    return 0;
}

static int map_window(void)
{
    st.window = reserve(st.nr_frames << ST_PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED, st.fd);
    if (!st.window)
        return -ENOMEM;
    return st.backed < st.nr_frames ? map_shared_frames() : 0;
}

static int map_machine(void)
{
    int rc;

    st.fd = memfd_create("stub-machine", MFD_CLOEXEC);
    if (st.fd < 0 || ftruncate(st.fd, (off_t)(file_frames() << ST_PAGE_SHIFT)) < 0)
        return -errno;
    rc = map_window();
    if (rc)
        return rc;
    st.frames = reserve(st.nr_frames * sizeof(*st.frames), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1);
    return st.frames ? map_m2p() : -ENOMEM;
}

static void claim_for_xen(uint64_t first, uint64_t count)
{
    for (uint64_t mfn = first; mfn < first + count; mfn++)
        st.frames[mfn] = (struct st_frame){ .owner = DOMID_XEN, .kind = ST_XEN, .pfn = ST_NONE };
}

static int claim_foreign_frames(void)
{
    for (unsigned i = 0; i < sizeof(st.foreign) / sizeof(st.foreign[0]); i++) {
        int rc = st_frame_alloc(0, ST_DATA, i + 1, &st.foreign[i]);

        if (rc)
            return rc;
    }
    return 0;
}

static int map_machine_again(void)
{
    memset(st.m2p, 0xff, m2p_bytes());
    return madvise(st.frames, st.nr_frames * sizeof(*st.frames), MADV_DONTNEED) < 0 ? -errno : 0;
}

static uint64_t backed_frames(const stub_machine_config *config)
{
    return config->backed && config->backed < config->frames ? config->backed : config->frames;
}

/* A machine that hands out the same frames again can keep the memory behind them. */
static bool same_memory(const stub_machine_config *config)
{
    return st.up && st.nr_frames == config->frames && st.seed == config->seed
           && st.order == config->extent_order && st.mapped_by_window == config->window
           && st.backed == backed_frames(config);
}

static int machine_up(const stub_machine_config *config)
{
    uint64_t m2p_frames = (config->frames * sizeof(uint64_t)) >> ST_PAGE_SHIFT;
    bool again = same_memory(config);
    int rc;

    if (!again)
        machine_down();
    st.shadow = config->shadow;
    st.order = config->extent_order;
    st.seed = config->seed;
    st.nr_frames = config->frames;
    st.backed = backed_frames(config);
    st.mapped_by_window = config->window;
    st.m2p_first = LOW_FRAMES;
    st.m2p_chunks = (m2p_frames + CHUNK_FRAMES - 1) / CHUNK_FRAMES;
    st.pool_first = st.m2p_first + st.m2p_chunks * CHUNK_FRAMES;
    st.pool_frames = (st.nr_frames - st.pool_first) >> st.order << st.order;
    st.next_domid = 1;
    st.nr_freed = st.pool_next = 0;
    rc = again ? map_machine_again() : map_machine();
    if (rc)
        return rc;
    claim_for_xen(0, st.pool_first);
    st.up = true;
    return claim_foreign_frames();
}

static int check_machine(const stub_machine_config *config)
{
    if (config->frames < MIN_FRAMES || config->frames > MAX_FRAMES)
        return st_error(EINVAL, "a machine has %lu to %lu frames, not %lu", MIN_FRAMES, MAX_FRAMES,
                        (unsigned long)config->frames);
    if (backed_frames(config) < config->frames && config->backed < MIN_FRAMES + config->frames / ST_ENTRIES)
        return st_error(EINVAL, "%lu frames with memory of their own are too few for the m2p",
                        (unsigned long)config->backed);
    if (config->extent_order > 18)
        return st_error(EINVAL, "extents are of at most 2^18 frames, not 2^%u", config->extent_order);
    return 0;
}

/* Makes the default machine if there is none. */
int st_machine_ready(void)
{
    const stub_machine_config config = { .frames = DEFAULT_FRAMES, .shadow = true };
    int rc;

    if (st.up)
        return 0;
    rc = machine_up(&config);
    if (rc)
        machine_down();
    return rc;
}

static int reset_locked(const stub_machine_config *config)
{
    int rc = check_machine(config);

    if (rc)
        return rc;
    if (st_usage.mappings + st_usage.xen_mappings && !config->force)
        return st_error(EBUSY, "%lu foreign mappings are still alive",
                        (unsigned long)(st_usage.mappings + st_usage.xen_mappings));
    st_mappings_drop();
    st_domain_free_all();
    st_store_clear();
    st_faults_reset();
    rc = machine_up(config);
    if (rc) {
        machine_down();
        return st_error(-rc, "cannot make a machine of %lu frames", (unsigned long)config->frames);
    }
    return 0;
}

int stub_reset(const stub_machine_config *config)
{
    int rc;

    st_lock();
    rc = reset_locked(config);
    st_unlock();
    return rc;
}

uint64_t stub_max_page(void)
{
    uint64_t frames = 0;

    st_lock();
    if (st_machine_ready() == 0)
        frames = st.nr_frames;
    st_unlock();
    return frames;
}

/* The frame that is handed out as number n. */
static uint64_t pool_frame(uint64_t n)
{
    uint64_t extent;

    if (st.mapped_by_window && !st.seed)
        return st.pool_first + n;
    extent = st_permute(n >> st.order, st.pool_frames >> st.order, st.seed);
    return st.pool_first + (extent << st.order) + (n & ((1UL << st.order) - 1));
}

static int next_free(uint64_t *mfn)
{
    if (st.nr_freed) {
        *mfn = st.freed[--st.nr_freed];
        return 0;
    }
    if (st.pool_next >= st.pool_frames)
        return st_error(ENOMEM, "the machine has no free frame left (of %lu)",
                        (unsigned long)st.nr_frames);
    *mfn = pool_frame(st.pool_next++);
    return 0;
}

/* Takes one frame out of those that were given back. */
int st_frame_take(uint64_t mfn)
{
    for (uint64_t i = st.nr_freed; i-- > 0;) {
        if (st.freed[i] != mfn)
            continue;
        st.freed[i] = st.freed[--st.nr_freed];
        return 0;
    }
    return st_error(EBUSY, "frame %#lx is not one that was given back", (unsigned long)mfn);
}

void st_frame_claim(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t mfn)
{
    st.frames[mfn] = (struct st_frame){ .pfn = pfn, .owner = owner, .kind = (uint8_t)kind };
    st.m2p[mfn] = pfn;
}

int st_frame_alloc(uint16_t owner, enum st_kind kind, uint64_t pfn, uint64_t *mfn)
{
    int rc = next_free(mfn);

    if (!rc)
        st_frame_claim(owner, kind, pfn, *mfn);
    return rc;
}

/* A frame that cannot be noted as free is lost to the machine until it is reset, nothing worse. */
static void remember_freed(uint64_t mfn)
{
    if (st.nr_freed == st.cap_freed) {
        uint64_t cap = st.cap_freed ? 2 * st.cap_freed : 4096;
        uint64_t *grown = realloc(st.freed, cap * sizeof(*grown));

        if (!grown)
            return;
        st.freed = grown;
        st.cap_freed = cap;
    }
    st.freed[st.nr_freed++] = mfn;
}

void st_frame_free(uint64_t mfn)
{
    st.frames[mfn] = (struct st_frame){ .owner = DOMID_INVALID, .kind = ST_FREE, .pfn = ST_NONE };
    st.m2p[mfn] = ST_NONE;
    remember_freed(mfn);
}

/*
 * The first of 2^order free frames in a row, none of which is anybody's yet. There are such runs only
 * where the machine hands out frames in runs as long; what lies before the next one is set aside.
 */
int st_extent_alloc(unsigned order, uint64_t *mfn)
{
    uint64_t count = 1UL << order;

    if (!order)
        return next_free(mfn);
    if (order > st.order)
        return st_error(ENOMEM, "no %lu free frames in a row: they come in runs of %lu", (unsigned long)count,
                        1UL << st.order);
    while (st.pool_next % count && st.pool_next < st.pool_frames)
        remember_freed(pool_frame(st.pool_next++));
    if (st.pool_next + count > st.pool_frames)
        return st_error(ENOMEM, "the machine has no %lu free frames in a row left", (unsigned long)count);
    *mfn = pool_frame(st.pool_next);
    st.pool_next += count;
    return 0;
}

uint64_t stub_free_frames(void)
{
    uint64_t count = 0;

    st_lock();
    if (st_machine_ready() == 0)
        count = st.pool_frames - st.pool_next + st.nr_freed;
    st_unlock();
    return count;
}

/*
 * With no domain and no mapping left, frames are handed out from the beginning again: the same
 * ones, of which the system has memory already.
 */
void st_machine_idle(void)
{
    if (!st.up || st.domains || st_usage.mappings)
        return;
    st.nr_freed = 0;
    st.pool_next = sizeof(st.foreign) / sizeof(st.foreign[0]);
}

uint32_t st_frame_type(uint64_t mfn)
{
    return mfn < st.nr_frames ? st_type_of(&st.frames[mfn]) : XEN_DOMCTL_PFINFO_XTAB;
}

int stub_frame(uint64_t mfn, stub_frame_info *info)
{
    int rc;

    st_lock();
    rc = st_machine_ready();
    if (!rc && mfn >= st.nr_frames)
        rc = st_error(EINVAL, "mfn %#lx is beyond the machine's end %#lx", (unsigned long)mfn,
                      (unsigned long)st.nr_frames);
    if (!rc) {
        const struct st_frame *frame = &st.frames[mfn];

        info->owner = frame->kind == ST_FREE ? DOMID_INVALID : frame->owner;
        info->pfn = frame->kind == ST_FREE || frame->kind == ST_XEN ? ST_NONE : frame->pfn;
        info->type = st_frame_type(mfn);
    }
    st_unlock();
    return rc;
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

int stub_set_m2p(uint64_t mfn, uint64_t pfn)
{
    int rc;

    st_lock();
    rc = st_machine_ready();
    if (!rc && mfn >= st.nr_frames)
        rc = st_error(EINVAL, "mfn %#lx is beyond the machine's end", (unsigned long)mfn);
    if (!rc)
        st.m2p[mfn] = pfn;
    st_unlock();
    return rc;
}

void stub_get_usage(stub_usage *usage)
{
    st_lock();
    *usage = st_usage;
    usage->logdirty_domains = usage->paused_domains = 0;
    for (const struct st_domain *d = st.domains; d; d = d->next) {
        usage->logdirty_domains += d->logdirty;
        usage->paused_domains += d->pause_count > 0;
    }
    st_unlock();
}
