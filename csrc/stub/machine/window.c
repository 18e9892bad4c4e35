/*
 * Mappings for benchmarks, on a machine made with `window`: what is measured there is the saver, and not what
 * mmap() costs this stand-in. Frames that follow one another are handed out as a pointer into the machine's own
 * window; other lists of frames are mapped once, and kept until the machine goes: the next mapping of the same
 * list is the same place. Nothing here is protected against writing.
 */
#include "stub/machine/frames.h"
#include "stub/machine/window.h"

#include <sys/mman.h>

#define NR_BUCKETS 4096U
#define MAX_RUNS   40000U       /* mappings of this process that may be spent: Linux allows 65530 in all */

struct kept {
    struct kept *next;
    uint64_t *frames;
    uint8_t *address;
    size_t pages;
};

static struct kept *buckets[NR_BUCKETS];
static uint64_t nr_runs;

static uint64_t hash_frames(const xen_pfn_t *frames, size_t pages)
{
    uint64_t hash = pages;

    for (size_t i = 0; i < pages; i++)
        hash = (hash ^ frames[i]) * 0x9e3779b97f4a7c15UL;
    return hash >> 32;
}

static struct kept *find(uint64_t bucket, const xen_pfn_t *frames, size_t pages)
{
    for (struct kept *k = buckets[bucket]; k; k = k->next)
        if (k->pages == pages && memcmp(k->frames, frames, pages * sizeof(*frames)) == 0)
            return k;
    return NULL;
}

static uint64_t count_runs(const xen_pfn_t *frames, size_t pages)
{
    uint64_t runs = 0;

    for (size_t i = 0; i < pages; i += st_frames_in_a_row(frames + i, pages - i))
        runs++;
    return runs;
}

static int place_all(uint8_t *address, const xen_pfn_t *frames, size_t pages)
{
    size_t length;

    for (size_t i = 0; i < pages; i += length) {
        length = st_frames_in_a_row(frames + i, pages - i);
        if (mmap(address + (i << ST_PAGE_SHIFT), length << ST_PAGE_SHIFT, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED | MAP_POPULATE, st.fd, st_file_offset(frames[i])) == MAP_FAILED)
            return -ENOMEM;
    }
    return 0;
}

static void drop(struct kept *k)
{
    if (k->address)
        munmap(k->address, k->pages << ST_PAGE_SHIFT);
    free(k->frames);
    free(k);
}

static struct kept *make(const xen_pfn_t *frames, size_t pages)
{
    struct kept *k = calloc(1, sizeof(*k));
    void *address = k ? mmap(NULL, pages << ST_PAGE_SHIFT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                             -1, 0)
                      : MAP_FAILED;

    if (!k)
        return NULL;
    k->address = address == MAP_FAILED ? NULL : address;
    k->pages = pages;
    k->frames = malloc(pages * sizeof(*frames));
    if (!k->address || !k->frames || place_all(k->address, frames, pages)) {
        drop(k);
        return NULL;
    }
    memcpy(k->frames, frames, pages * sizeof(*frames));
    return k;
}

static uint8_t *kept_address(const xen_pfn_t *frames, size_t pages)
{
    uint64_t bucket = hash_frames(frames, pages) % NR_BUCKETS;
    struct kept *k = find(bucket, frames, pages);
    uint64_t runs;

    if (k)
        return k->address;
    runs = count_runs(frames, pages);
    if (nr_runs + runs > MAX_RUNS)
        return NULL;
    k = make(frames, pages);
    if (!k)
        return NULL;
    k->next = buckets[bucket];
    buckets[bucket] = k;
    nr_runs += runs;
    return k->address;
}

uint8_t *st_window_find(const xen_pfn_t *frames, size_t pages)
{
    if (!st.mapped_by_window)
        return NULL;
    for (size_t i = 1; i < pages; i++)
        if (frames[i] != frames[0] + i)
            return kept_address(frames, pages);
    return st_page(frames[0]);
}

void st_window_forget(void)
{
    for (unsigned i = 0; i < NR_BUCKETS; i++) {
        while (buckets[i]) {
            struct kept *k = buckets[i];

            buckets[i] = k->next;
            drop(k);
        }
    }
    nr_runs = 0;
}

void st_window_abandon(void)
{
    for (unsigned i = 0; i < NR_BUCKETS; i++)
        for (struct kept *k = buckets[i]; k; k = k->next)
            k->address = NULL;
    st_window_forget();
}
