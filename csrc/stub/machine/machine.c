/*
 * The machine: its memory is one sparse memfd, frame n at offset n * 4096. Frames below 1 MiB
 * are Xen's, then come the m2p's own frames in chunks of 2 MiB, then the pool that domains get
 * theirs from, in an order that a seed decides.
 */
#include "stub/machine/buffers.h"
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/foreign.h"
#include "stub/machine/frames.h"
#include "stub/machine/m2p.h"
#include "stub/machine/store.h"
#include "stub/machine/window.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOW_FRAMES    512UL                     /* Xen's own */
#define DEFAULT_FRAMES (8UL << (30 - ST_PAGE_SHIFT))
#define DEFAULT_ORDER 3
#define MIN_FRAMES    4096UL
#define MAX_FRAMES    (1UL << 32)

struct st_machine st = { .fd = -1 };
stub_usage st_usage;

static void unmap(void *address, uint64_t length)
{
    if (address)
        munmap(address, length);
}

static void machine_down(void)
{
    st_window_forget();
    unmap(st.window, st.nr_frames << ST_PAGE_SHIFT);
    st_m2p_unmap();
    unmap(st.frames, st.nr_frames * sizeof(*st.frames));
    if (st.fd >= 0)
        close(st.fd);
    free(st.freed);
    memset(&st, 0, sizeof(st));
    st.fd = -1;
}

void *st_reserve(uint64_t length, int protection, int flags, int fd)
{
    void *address = mmap(NULL, length, protection, flags | MAP_NORESERVE, fd, 0);

    return address == MAP_FAILED ? NULL : address;
}

static uint64_t file_frames(void)
{
    return st.backed < st.nr_frames ? st.backed + ST_SHARED_FRAMES : st.nr_frames;
}

/* Lays the memory that the rest of the frames share over the rest of the window, again and again. */
static int map_shared_frames(void)
{
    for (uint64_t mfn = st.backed; mfn < st.nr_frames; mfn += ST_SHARED_FRAMES) {
        uint64_t left = st.nr_frames - mfn, count = left < ST_SHARED_FRAMES ? left : ST_SHARED_FRAMES;

        if (mmap(st_page(mfn), count << ST_PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, st.fd,
                 st_file_offset(mfn)) == MAP_FAILED)
            return -ENOMEM;
    }
    return 0;
}

static int map_window(void)
{
    st.window = st_reserve(st.nr_frames << ST_PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED, st.fd);
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
    st.frames = st_reserve(st.nr_frames * sizeof(*st.frames), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1);
    return st.frames ? st_m2p_map() : -ENOMEM;
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
    st_m2p_clear();
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
           && st.backed == backed_frames(config) && st.pv32 == config->pv32;
}

static int machine_up(const stub_machine_config *config)
{
    bool again = same_memory(config);
    int rc;

    if (!again)
        machine_down();
    st.shadow = config->shadow;
    st.dying_refused = config->dying_refused;
    st.pv32 = config->pv32;
    st.shared_info_anywhere = config->shared_info_anywhere;
    st.order = config->extent_order;
    st.seed = config->seed;
    st.nr_frames = config->frames;
    st.added = 0;
    st.backed = backed_frames(config);
    st.mapped_by_window = config->window;
    st.scheduler = config->scheduler ? config->scheduler : XEN_SCHEDULER_CREDIT2;
    st.physmap_dirty = config->physmap_dirty;
    st.scattered = config->scattered;
    st.pool_first = st_m2p_place(LOW_FRAMES);
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
    if (backed_frames(config) < config->frames && config->backed < MIN_FRAMES + 3 * config->frames / (2 * ST_ENTRIES))
        return st_error(EINVAL, "%lu frames with memory of their own are too few for the m2p",
                        (unsigned long)config->backed);
    if (config->extent_order > 18)
        return st_error(EINVAL, "extents are of at most 2^18 frames, not 2^%u", config->extent_order);
    return 0;
}

/* Makes the default machine if there is none. */
int st_machine_ready(void)
{
    const stub_machine_config config = { .frames = DEFAULT_FRAMES, .extent_order = DEFAULT_ORDER, .shadow = true,
                                         .pv32 = true };
    int rc;

    if (st.up)
        return 0;
    rc = machine_up(&config);
    if (rc)
        machine_down();
    return rc;
}

int st_machine_reset(const stub_machine_config *config)
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

/*
 * A forked child has all that the machine knows, but none of its threads, and what it wrote to the machine's memory, a file,
 * would be written to the parent's guests. So it lets go of the machine, and its first call makes it one of its own. What was
 * handed out stays where it is, for whoever in the child still looks at it; the handles are the parent's, and no handles here.
 */
static void let_go(void)
{
    st_mappings_abandon();
    st_domains_abandon();
    st_handles_abandon();
    st_store_abandon();
    st_buffers_abandon();
    st_faults_reset();
    st_set_hook(NULL);
    if (st.mapped_by_window) {
        st_window_abandon();
        st.window = NULL;
    }
    machine_down();
    memset(&st_usage, 0, sizeof(st_usage));
}

static void begin_anew(void)
{
    let_go();
    st_unlock();
}

/* The lock is taken first, so that the child finds all whole, and waits for no thread that it does not have. */
__attribute__((constructor)) static void survive_forks(void)
{
    pthread_atfork(st_lock, st_unlock, begin_anew);
}

void st_usage_now(stub_usage *usage)
{
    *usage = st_usage;
    usage->logdirty_domains = usage->paused_domains = 0;
    for (const struct st_domain *d = st.domains; d; d = d->next) {
        usage->logdirty_domains += d->logdirty;
        usage->paused_domains += d->pause_count > 0;
    }
}
