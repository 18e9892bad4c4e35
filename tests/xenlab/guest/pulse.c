/* The test guest's workload: dirties memory with content that can be checked.
 *
 * Every page of a region holds words computed from (page, version); versions are
 * kept in a table. Each tick some pseudo-random pages are checked and rewritten
 * with the next version, and a sweep checks the rest in turn. Once a second a
 * heartbeat goes to standard output:
 *   PULSE n=<beat> ms=<monotonic ms> wrote=<pages> checked=<pages> sweeps=<n> gap=<ms> bad=<pages>
 * gap is the longest time by the wall clock between two ticks since the last beat: a
 * guest that was suspended, or moved to another domain, tells here how long it stood.
 *
 * Options come from the kernel command line:
 *   pulse.mib=N    size of the region (16)
 *   pulse.rate=N   pages rewritten a second (1000)
 *   pulse.check=N  pages checked a second beyond those (2000)
 *   pulse.grants=N maps a grant of its own N times, again each pulse.every=M (5)
 *                  beats, up to pulse.batches=B (4) times: the kernel makes room
 *                  128 MiB at a time, with new p2m list pages (p2m_generation)
 *   pulse.quiet=N  heartbeat each N seconds (1)
 *   pulse.workers=N  a process bound to each of the first N vCPUs redoes one
 *                  floating point sum; the heartbeat ends with vcpus=<those that
 *                  got on since the last>, and a sum that differs counts as bad
 *   pulse.churn=1  a process takes half of the free memory, fills it, checks it some
 *                  tenths of a second later and gives it back, again and again: so
 *                  pages that the balloon brings are used, and checked, at once; the
 *                  heartbeat ends with churned=<how often it has done so>
 *   pulse.churn=2  the same, but it waits until the balloon has moved by 2 MiB
 *   pulse.uart=1   each beat changes the scratch register of the serial port, which is
 *                  in QEMU, and looks first whether it is what the last beat wrote: a
 *                  device model that goes on from an older state counts as bad; the
 *                  heartbeat ends with uart=<how often it was as it should be>
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xen/gntalloc.h>
typedef uint32_t grant_ref_t;
typedef uint16_t domid_t;
#include <xen/gntdev.h>

enum { PAGE = 4096, WORDS = PAGE / 8, TICK_MS = 20, WORKER_TICK_MS = 100 };

static uint64_t *region, *versions;
static uint64_t pages, wrote, checked, sweeps, bad;

static long option(const char *name, long fallback)
{
    static char line[4096];
    if (!line[0]) {
        int fd = open("/proc/cmdline", O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
        if (n < 0)
            n = 0;
        line[n] = 0;
        close(fd);
    }
    const char *at = strstr(line, name);
    return at ? atol(at + strlen(name)) : fallback;
}

static uint64_t word(uint64_t page, uint64_t version, unsigned i)
{
    uint64_t x = (page * 0x9E3779B97F4A7C15u) ^ (version * 0xC2B2AE3D27D4EB4Fu);
    return (x + i) * 0x165667B19E3779F9u;
}

static void fill(uint64_t page)
{
    uint64_t *p = region + page * WORDS, v = ++versions[page];
    for (unsigned i = 0; i < WORDS; i++)
        p[i] = word(page, v, i);
    wrote++;
}

static void check(uint64_t page)
{
    uint64_t *p = region + page * WORDS, v = versions[page];
    checked++;
    for (unsigned i = 0; i < WORDS; i++)
        if (p[i] != word(page, v, i)) {
            bad++;
            printf("PULSE CORRUPT page=%lu version=%lu word=%u has=%lx want=%lx\n",
                   page, v, i, p[i], word(page, v, i));
            return;
        }
}

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

/* This domain's number, asked of xenstore in its wire format; -1 if it fails. */
static int own_domid(void)
{
    struct { uint32_t type, req, tx, len; } head = {2 /* read */, 0, 0, 6};
    char text[32] = "";
    int fd = open("/dev/xen/xenbus", O_RDWR);
    if (fd < 0 || write(fd, &head, sizeof head) < 0 || write(fd, "domid", 6) < 0 ||
        read(fd, &head, sizeof head) != sizeof head || head.len >= sizeof text ||
        read(fd, text, head.len) != head.len) {
        printf("PULSE xenstore failed: %s\n", strerror(errno));
        return -1;
    }
    close(fd);
    return atoi(text);
}

/* Grants one page to this very domain once, then maps that grant count times. */
static void map_grants(unsigned count)
{
    static int galloc, gdev;
    static struct ioctl_gntalloc_alloc_gref own = {.flags = GNTALLOC_FLAG_WRITABLE, .count = 1};
    if (!galloc) {
        galloc = open("/dev/xen/gntalloc", O_RDWR);
        gdev = open("/dev/xen/gntdev", O_RDWR);
        own.domid = own_domid();
        if (ioctl(galloc, IOCTL_GNTALLOC_ALLOC_GREF, &own)) {
            printf("PULSE gntalloc failed: %s\n", strerror(errno));
            return;
        }
    }
    struct ioctl_gntdev_map_grant_ref *m =
        calloc(1, sizeof *m + count * sizeof(struct ioctl_gntdev_grant_ref));
    m->count = count;
    for (unsigned i = 0; i < count; i++) {
        m->refs[i].domid = own.domid;
        m->refs[i].ref = own.gref_ids[0];
    }
    if (ioctl(gdev, IOCTL_GNTDEV_MAP_GRANT_REF, m))
        printf("PULSE gntdev failed: %s\n", strerror(errno));
    else if (mmap(NULL, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, gdev,
                  m->index) == MAP_FAILED)
        printf("PULSE grant mmap failed: %s\n", strerror(errno));
    else
        printf("PULSE mapped %u grants of domain %u, ref %u\n", count, own.domid, own.gref_ids[0]);
    free(m);
}

static struct worker { uint64_t done, bad; } *workers;     /* shared memory */

__attribute__((noipa)) static double sum(unsigned from)
{
    double x = from + 1.5, s = 0;
    for (unsigned i = 1; i < 20000; i++)
        x = x * 1.0000001 + 0.25, s += x / i;
    return s;
}

static void start_worker(unsigned cpu)
{
    if (fork())
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        _exit(1);
    for (double want = sum(cpu);; workers[cpu].done++) {
        struct timespec nap = {0, WORKER_TICK_MS * 1000000};
        nanosleep(&nap, NULL);
        if (sum(cpu) != want)
            workers[cpu].bad++;
    }
}

/* A line of /proc/meminfo, in pages; as a scanf format. 0 if there is none. */
static uint64_t meminfo(const char *format)
{
    char line[128];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, format, &kib) != 1)
        ;
    if (f)
        fclose(f);
    return kib / 4;
}

/* Some words of each page will do: a page that is lost or old is so as a whole. */
static uint64_t *at(uint64_t *mem, uint64_t page, unsigned i)
{
    return mem + page * WORDS + i * (WORDS / 4);
}

/* Returns whether there was memory to take. */
static int churn(struct worker *w)
{
    uint64_t n = meminfo("MemFree: %lu") / 2, turn = w->done, wrong = 0;
    struct timespec nap = {0, 300 * 1000000};
    uint64_t *mem = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!n || mem == MAP_FAILED)
        return 0;
    for (uint64_t p = 0; p < n; p++)
        for (unsigned i = 0; i < 4; i++)
            *at(mem, p, i) = word(p, turn, i);
    nanosleep(&nap, NULL);
    for (uint64_t p = 0; p < n; p++)
        for (unsigned i = 0; i < 4; i++)
            if (*at(mem, p, i) != word(p, turn, i)) {
                wrong++;
                break;
            }
    if (wrong)
        printf("PULSE CORRUPT: %lu of %lu pages taken anew\n", wrong, n);
    w->bad += wrong;
    munmap(mem, n * PAGE);
    return 1;
}

static void start_churning(struct worker *w, int at_once)
{
    if (fork())
        return;
    munmap(region, pages * PAGE); /* or each page that the parent fills anew would be there twice */
    struct timespec nap = {0, 50 * 1000000};
    uint64_t first = meminfo("MemTotal: %lu"), now = first;
    while (!at_once && now + 512 > first && first + 512 > now) {
        nanosleep(&nap, NULL);
        now = meminfo("MemTotal: %lu");
    }
    for (;;) {
        w->done += churn(w);
        nanosleep(&nap, NULL);
    }
}

enum { SCRATCH = 0x3f8 + 7 };

/* Of COM1's registers the one that means nothing to the port: it keeps what was last written. */
static void scratch(struct worker *w)
{
    static uint8_t wrote;
    static int begun, ports = -1;
    uint8_t has, next;
    if (ports < 0)
        ports = open("/dev/port", O_RDWR);      /* ioperm()'s leave does not outlive a resume */
    if (pread(ports, &has, 1, SCRATCH) != 1) {
        printf("PULSE CORRUPT: no access to the serial port: %s\n", strerror(errno));
        w->bad++;
        return;
    }
    if (begun && has != wrote) {
        w->bad++;
        printf("PULSE CORRUPT: the serial port's scratch register has=%x want=%x\n", has, wrote);
    } else if (begun) {
        w->done++;
    }
    next = has + 1;
    begun = pwrite(ports, &next, 1, SCRATCH) == 1;
    wrote = next;
}

int main(void)
{
    pages = (uint64_t)option("pulse.mib=", 16) * 256;
    uint64_t rate = option("pulse.rate=", 1000), sweep = option("pulse.check=", 2000);
    uint64_t grants = option("pulse.grants=", 0), batch = option("pulse.every=", 5);
    uint64_t batches = option("pulse.batches=", 4), every = option("pulse.quiet=", 1);
    unsigned nworkers = option("pulse.workers=", 0);
    uint64_t *seen = calloc(nworkers + 1, sizeof *seen);
    setvbuf(stdout, NULL, _IOLBF, 0);
    versions = calloc(pages, sizeof *versions);
    region = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (region == MAP_FAILED || !versions) {
        printf("PULSE no memory for %lu pages\n", pages);
        for (;;)
            pause();
    }
    for (uint64_t i = 0; i < pages; i++)
        fill(i);
    workers = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < nworkers; i++)
        start_worker(i);
    struct worker *churner = workers + PAGE / sizeof *workers - 1, uart = {0, 0};
    long churning = option("pulse.churn=", 0), scratching = option("pulse.uart=", 0);
    if (churning)
        start_churning(churner, churning == 1);
    printf("PULSE start pages=%lu rate=%lu check=%lu\n", pages, rate, sweep);

    uint64_t rng = 88172645463325252ull, beat = 0, next = 0, due_w = 0, due_c = 0;
    uint64_t last = clock_ms(CLOCK_MONOTONIC), next_beat = last + 1000 * every;
    uint64_t wall = clock_ms(CLOCK_REALTIME), gap = 0;
    for (;;) {
        struct timespec nap = {0, TICK_MS * 1000000};
        nanosleep(&nap, NULL);
        uint64_t t = clock_ms(CLOCK_MONOTONIC), w = clock_ms(CLOCK_REALTIME), dt = t - last;
        if (w > wall && w - wall > gap)
            gap = w - wall;
        last = t, wall = w;
        if (dt > 200)
            dt = 200;
        for (due_w += rate * dt; due_w >= 1000; due_w -= 1000) {
            rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
            uint64_t page = rng % pages;
            check(page);
            fill(page);
        }
        for (due_c += sweep * dt; due_c >= 1000; due_c -= 1000) {
            check(next);
            if (++next == pages)
                next = 0, sweeps++;
        }
        if (t >= next_beat) {
            next_beat = t + 1000 * every;
            if (scratching)
                scratch(&uart);
            uint64_t wrong = bad + churner->bad + uart.bad, alive = 0;
            for (unsigned i = 0; i < nworkers; i++) {
                wrong += workers[i].bad;
                alive += workers[i].done != seen[i];
                seen[i] = workers[i].done;
            }
            printf("PULSE n=%lu ms=%lu wrote=%lu checked=%lu sweeps=%lu gap=%lu bad=%lu",
                   ++beat, t, wrote, checked, sweeps, gap, wrong);
            gap = 0;
            if (nworkers)
                printf(" vcpus=%lu", alive);
            if (churning)
                printf(" churned=%lu", churner->done);
            if (scratching)
                printf(" uart=%lu", uart.done);
            printf("\n");
            if (grants && beat % batch == 0 && batches)
                batches--, map_grants(grants);
        }
    }
}
