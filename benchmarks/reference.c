/*
 * What the core is compared with: the plain ways to do the same. Compiled at run time, as Xen compiles its own (-O2),
 * and loaded through cffi (native.py has the declarations). The core's functions come in as pointers, so that a loop
 * here calls them as C does and no time of Python's is counted.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE    4096u
#define BATCH   1024u
#define ENTRIES 512u
#define NONE    (~(uint64_t)0)

/* A call that stays one, as into another library. */
#if defined(__GNUC__) && !defined(__clang__)
#define NOINLINE __attribute__((noipa))
#else
#define NOINLINE __attribute__((noinline))
#endif

/* ---- dirty bitmaps ---- */

typedef uint32_t (*scan_function)(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns,
                                  uint32_t max);

static uint64_t batch[BATCH];

/* Takes a batch of pfns over. The compiler must believe that all of it is looked at. */
static NOINLINE uint64_t take(const uint64_t *pfns, uint64_t nr)
{
    __asm__ volatile("" : : "r"(pfns), "r"(nr) : "memory");
    return nr;
}

uint64_t ref_scan_core(void *function, const uint64_t *words, uint64_t nr_bits, uint32_t times)
{
    scan_function scan = (scan_function)function;
    uint64_t found = 0;

    for (uint32_t i = 0; i < times; i++)
        for (uint64_t cursor = 0; cursor < nr_bits;)
            found += take(batch, scan(words, nr_bits, &cursor, batch, BATCH));
    return found;
}

static NOINLINE uint64_t scan_bits(const uint64_t *words, uint64_t nr_bits)
{
    uint64_t found = 0, nr = 0;

    for (uint64_t bit = 0; bit < nr_bits; bit++) {
        if (!(words[bit / 64] >> (bit % 64) & 1))
            continue;
        batch[nr++] = bit;
        if (nr == BATCH) {
            found += take(batch, nr);
            nr = 0;
        }
    }
    return found + take(batch, nr);
}

/* One look at each bit. */
uint64_t ref_scan_bits(const uint64_t *words, uint64_t nr_bits, uint32_t times)
{
    uint64_t found = 0;

    for (uint32_t i = 0; i < times; i++)
        found += scan_bits(words, nr_bits);
    return found;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FASTEST __attribute__((optimize("O3"), target_clones("avx512f", "avx2", "default")))
#else
#define FASTEST
#endif

FASTEST static uint64_t read_all(const uint64_t *words, uint64_t nr_words)
{
    uint64_t all = 0;

    for (uint64_t i = 0; i < nr_words; i++)
        all |= words[i];
    return all;
}

/* Reads each word once, with the widest loads that this machine has: the limit of any scan. */
uint64_t ref_read(const uint64_t *words, uint64_t nr_words, uint32_t times)
{
    uint64_t all = 0;

    for (uint32_t i = 0; i < times; i++) {
        __asm__ volatile("" : : "r"(words) : "memory");
        all |= read_all(words, nr_words);
    }
    return all;
}

/* ---- page tables ---- */

typedef int (*normalise_function)(const void *p2m, uint32_t level, uint32_t one_by_one, uint64_t *table, uint32_t *slot,
                                  uint64_t *mfn);

/* Copies each table into one of arena's pages, in turn, and has the core express it in pfns there. */
int ref_normalise_core(void *function, const void *p2m, uint32_t level, const uint64_t *tables, uint64_t nr,
                       uint64_t *arena)
{
    normalise_function normalise = (normalise_function)function;

    for (uint64_t i = 0; i < nr; i++) {
        uint64_t *copy = arena + i % BATCH * ENTRIES, mfn;
        uint32_t slot;
        int rc;

        memcpy(copy, tables + i * ENTRIES, PAGE);
        rc = normalise(p2m, level, 0, copy, &slot, &mfn);
        if (rc)
            return rc;
    }
    return 0;
}

struct tables {
    const uint64_t *m2p, *p2m;
    uint64_t nr_mfns, nr_pfns;
};

static NOINLINE uint64_t machine_to_pfn(const struct tables *t, uint64_t mfn)
{
    return t->m2p[mfn];
}

static NOINLINE uint64_t pfn_to_machine(const struct tables *t, uint64_t pfn)
{
    return t->p2m[pfn];
}

static NOINLINE int belongs_to_guest(const struct tables *t, uint64_t mfn)
{
    return mfn < t->nr_mfns && machine_to_pfn(t, mfn) < t->nr_pfns
           && pfn_to_machine(t, machine_to_pfn(t, mfn)) == mfn;
}

static NOINLINE int rewrite(const struct tables *t, uint32_t level, const uint64_t *from, uint64_t *to)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint64_t entry = from[i], mfn = entry >> 12 & 0xffffffffffu;

        if (level == 4 && i >= 256 && i <= 271)
            entry = 0;
        if (entry & 1) {
            if ((level > 1 && entry & 0x80) || !belongs_to_guest(t, mfn))
                return -EAGAIN;
            entry = (entry & ~(0xffffffffffull << 12)) | machine_to_pfn(t, mfn) << 12;
        }
        to[i] = entry;
    }
    return 0;
}

/*
 * One entry after another, as libxenguest is seen to do it: three lookups in the m2p and one in the p2m for each,
 * by calls that are not inlined; every table into memory of its own, which is released after the batch.
 */
int ref_normalise_plain(const uint64_t *m2p, uint64_t nr_mfns, const uint64_t *p2m, uint64_t nr_pfns, uint32_t level,
                        const uint64_t *tables, uint64_t nr, uint64_t *last)
{
    const struct tables t = { m2p, p2m, nr_mfns, nr_pfns };
    uint64_t *pages[BATCH];
    int rc = 0;

    for (uint64_t first = 0; first < nr && !rc; first += BATCH) {
        uint64_t count = nr - first < BATCH ? nr - first : BATCH, made = 0;

        for (; made < count && !rc; made++) {
            pages[made] = malloc(PAGE);
            rc = pages[made] ? rewrite(&t, level, tables + (first + made) * ENTRIES, pages[made]) : -ENOMEM;
        }
        if (made && !rc)
            memcpy(last, pages[made - 1], PAGE);
        while (made)
            free(pages[--made]);
    }
    return rc;
}

/* ---- the stub itself: what either saver asks of it for each batch ---- */

struct stub_calls {
    int (*types)(void *xch, uint32_t domid, unsigned num, uint64_t *frames);
    void *(*map)(void *fmem, uint32_t domid, int prot, size_t pages, const uint64_t *frames, int *errors);
    int (*unmap)(void *fmem, void *address, size_t pages);
};

/* Types of, maps and unmaps these frames, 1024 at a time. -1 if a call fails. */
int ref_stub_batches(const void *const *functions, void *xch, void *fmem, uint32_t domid, const uint64_t *frames,
                     uint64_t nr_pages)
{
    static uint64_t types[BATCH];
    static int errors[BATCH];
    struct stub_calls calls;

    memcpy(&calls, functions, sizeof(calls));
    for (uint64_t done = 0; done < nr_pages; done += BATCH) {
        uint64_t count = nr_pages - done < BATCH ? nr_pages - done : BATCH;
        void *address;

        memcpy(types, frames + done, count * sizeof(*types));
        if (calls.types(xch, domid, (unsigned)count, types))
            return -1;
        address = calls.map(fmem, domid, 1, count, frames + done, errors);
        if (!address || calls.unmap(fmem, address, count))
            return -1;
    }
    return 0;
}

/* ---- bytes in and out ---- */

static int write_all(int fd, struct iovec *at, int left)
{
    while (left) {
        ssize_t n = writev(fd, at, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        while (left && (size_t)n >= at->iov_len) {
            n -= (ssize_t)at->iov_len;
            at++;
            left--;
        }
        if (left) {
            at->iov_base = (char *)at->iov_base + n;
            at->iov_len -= (size_t)n;
        }
    }
    return 0;
}

/* The bytes of a full pass: for each 1024 pages a record's head with their entries, and the pages in one piece. */
int ref_writev(int fd, const void *memory, uint64_t nr_pages)
{
    static uint64_t head[3 + BATCH];

    for (uint64_t done = 0; done < nr_pages; done += BATCH) {
        uint64_t count = nr_pages - done < BATCH ? nr_pages - done : BATCH;
        struct iovec iov[2] = {
            { head, (2 + count) * sizeof(head[0]) },
            { (char *)(uintptr_t)memory + done * PAGE, count * PAGE },
        };
        int rc = write_all(fd, iov, 2);

        if (rc)
            return rc;
    }
    return 0;
}

/* The same of single pages, by their numbers in memory. */
int ref_writev_pages(int fd, const void *memory, const uint64_t *numbers, uint64_t nr_pages)
{
    static uint64_t head[3 + BATCH];
    struct iovec iov[BATCH];

    for (uint64_t done = 0; done < nr_pages;) {
        uint64_t count = nr_pages - done < BATCH - 1 ? nr_pages - done : BATCH - 1;
        int rc;

        iov[0] = (struct iovec){ head, (2 + count) * sizeof(head[0]) };
        for (uint64_t i = 0; i < count; i++)
            iov[i + 1] = (struct iovec){ (char *)(uintptr_t)memory + numbers[done + i] * PAGE, PAGE };
        rc = write_all(fd, iov, (int)count + 1);
        if (rc)
            return rc;
        done += count;
    }
    return 0;
}

static int read_all_of(int fd, char *to, size_t left)
{
    while (left) {
        ssize_t n = read(fd, to, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENODATA;
        to += n;
        left -= (size_t)n;
    }
    return 0;
}

/* Reads what ref_writev() wrote, pages straight to their places. */
int ref_read_pages(int fd, void *memory, uint64_t nr_pages)
{
    static uint64_t head[3 + BATCH];

    for (uint64_t done = 0; done < nr_pages; done += BATCH) {
        uint64_t count = nr_pages - done < BATCH ? nr_pages - done : BATCH;
        int rc = read_all_of(fd, (char *)head, (2 + count) * sizeof(head[0]));

        rc = rc ? rc : read_all_of(fd, (char *)memory + done * PAGE, count * PAGE);
        if (rc)
            return rc;
    }
    return 0;
}

/* Writes to each page once, so that no page fault is counted later. */
void ref_touch(void *memory, uint64_t nr_pages)
{
    for (uint64_t i = 0; i < nr_pages; i++) {
        volatile char *at = (volatile char *)memory + i * PAGE;

        *at = *at;
    }
}
