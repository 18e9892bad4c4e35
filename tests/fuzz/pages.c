/*
 * libFuzzer's target in C: PAGE_DATA records into a domain of the stub, then all that a restore does with
 * them. Two bytes for the size of the p2m, the kind of domain (PV of 64 or 32 bits, or HVM) and whether pages are
 * compared; then records: four bytes of length, and the body. A body may be cut short by the input's end.
 */
#include "restore/session.h"
#include "stub/panel/stub_api.h"
#include "xcsr_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 192
#define MAX_RECORDS 8
#define LIMIT 1024
#define COMPARES 0x80 /* in the second byte */
#define IS_HVM 0x40
#define IS_NARROW 0x20 /* 32 bits, if it is PV */

int stub_python_hook(const char *function, uint64_t count);
int stub_python_hook(const char *function, uint64_t count)
{
    (void)function;
    (void)count;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static xcsr *machine(void)
{
    static xcsr *h;
    xcsr_error why;
    stub_machine_config config = {.frames = 4096, .shadow = true, .pv32 = true};
    if (!h && (stub_reset(&config) || xcsr_open(&h, &why)))
        abort();
    return h;
}

static int next_record(xcsr_restore *r, xcsr_source *src)
{
    uint32_t length;
    xcsr_page_result result;
    int rc = xcsr_source_read(src, &length, sizeof length);
    return rc ? rc : xcsr_restore_pages(r, src, length, &result);
}

static void whole(xcsr_restore *r)
{
    uint64_t count, leaf = 3;
    if (xcsr_restore_check_tables(r, &count) || !xcsr_restore_has_data(r, leaf) || xcsr_restore_type(r, leaf))
        return;
    if (!xcsr_restore_give_back(r, &count) && !xcsr_restore_write_p2m(r, &leaf, 1))
        xcsr_restore_pin(r, &count);
}

static void whole_hvm(xcsr_restore *r)
{
    uint64_t count;
    if (xcsr_restore_give_back(r, &count))
        return;
    for (uint64_t gfn = 0; gfn < LIMIT; gfn++) /* what it says that it has is there */
        if (xcsr_restore_has_data(r, gfn) && xcsr_restore_mfn(r, gfn) == ~0ull)
            abort();
}

static void check_leaks(uint32_t domid)
{
    stub_usage usage;
    stub_get_usage(&usage);
    if (usage.mappings || usage.hypercall_buffers)
        abort();
    stub_domain_state state;
    if (stub_state(domid, &state) || state.running || state.tot_pages > state.max_pages)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    xcsr *h = machine();
    xcsr_restore *r;
    xcsr_source *src;
    xcsr_error why;
    if (size < 2)
        return 0;
    bool hvm = data[1] & IS_HVM;
    uint32_t width = hvm ? 0 : data[1] & IS_NARROW ? 4 : 8;
    int domid = stub_create_empty(hvm ? STUB_PVH : width == 4 ? STUB_PV32 : STUB_PV64, PAGES, 1, "");
    int fd = memfd_create("stream", 0);
    if (domid < 0 || fd < 0 || write(fd, data + 2, size - 2) < 0)
        abort();
    lseek(fd, 0, SEEK_SET);
    if (width == 4 && xcsr_set_width(h, (uint32_t)domid, width))
        abort();
    if (xcsr_restore_new(h, (uint32_t)domid, LIMIT, width, &r) || xcsr_source_open(fd, 100, &src, &why))
        abort();
    uint64_t nr_pfns = data[0] | (uint64_t)(data[1] & 3) << 8;
    int rc = hvm ? 0 : xcsr_restore_grow(r, nr_pfns);
    for (int i = 0; !rc && i < MAX_RECORDS; i++) {
        if (data[1] & COMPARES && i == MAX_RECORDS / 2)
            xcsr_restore_compare(r, 1);
        rc = next_record(r, src);
    }
    if (rc == -ENODATA)
        (hvm ? whole_hvm : whole)(r);
    xcsr_source_close(src);
    xcsr_restore_free(r);
    check_leaks((uint32_t)domid);
    close(fd);
    stub_destroy((uint32_t)domid);
    return 0;
}
