/*
 * What libxenguest 4.17 wants of libxenctrl besides what the stub defines, made from the stub's own
 * functions. Prototypes here are of functions that libxenctrl exports but that no public header has.
 */
#ifndef XCSR_STANDIN_H
#define XCSR_STANDIN_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "stub/machine/buffers.h"
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/foreign.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"

#include <xen/sysctl.h>
#include <xentoollog.h>

/*
 * libxenguest looks into the handle: at the loggers, at xcall and at fmem. The order and the sizes are
 * those of Xen 4.17; only what stands behind dmod is the stand-in's own.
 */
struct standin_handle {
    int flags;
    xentoollog_logger *error_handler, *error_handler_tofree;
    xentoollog_logger *dombuild_logger, *dombuild_logger_tofree;
    xc_error last_error;
    FILE *dombuild_logger_file;
    const char *currently_progress_reporting;
    struct standin_handle *xcall;       /* this handle itself: xencall1() needs no other */
    xenforeignmemory_handle *fmem;
    void *dmod;
    xc_interface *stub;                 /* what the stub takes for its handle */
    struct standin_handle *next;
};

/* The stub's handle behind one of ours; NULL if it is none of ours. */
xc_interface *standin_stub_handle(const xc_interface *xch);
struct standin_handle *standin_handle(xc_interface *xch);
struct standin_handle *standin_handle_with(const xenforeignmemory_handle *fmem);

/* The directions in which a hypercall buffer is copied: bits. */
enum standin_bounce { STANDIN_BOUNCE_IN = 1, STANDIN_BOUNCE_OUT = 2 };

struct standin_entry { uint64_t va, mfn, npages; };     /* privcmd's, of which only mfn counts here */

int stub_xc_version(xc_interface *xch, int cmd, void *arg);
int stub_xc_interface_close(xc_interface *xch);
xc_interface *stub_xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
                                     unsigned open_flags);

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long mfn);
void *xc_map_foreign_pages(xc_interface *xch, uint32_t domid, int prot, const xen_pfn_t *arr, int num);
void *xc_map_foreign_ranges(xc_interface *xch, uint32_t domid, size_t size, int prot, size_t chunksize,
                            struct standin_entry entries[], int nentries);

int xc__hypercall_bounce_pre(xc_interface *xch, xc_hypercall_buffer_t *b);
void xc__hypercall_bounce_post(xc_interface *xch, xc_hypercall_buffer_t *b);
int xencall1(struct standin_handle *xcall, unsigned op, uint64_t argument);

void xc_reportv(xc_interface *xch, xentoollog_logger *lg, xentoollog_level level, int code,
                const char *format, va_list args) __attribute__((format(printf, 5, 0)));
void xc_report(xc_interface *xch, xentoollog_logger *lg, xentoollog_level level, int code,
               const char *format, ...) __attribute__((format(printf, 5, 6)));
void xc_report_error(xc_interface *xch, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *xc_set_progress_prefix(xc_interface *xch, const char *doing);
void xc_report_progress_single(xc_interface *xch, const char *doing);
void xc_report_progress_step(xc_interface *xch, unsigned long done, unsigned long total);

int read_exact(int fd, void *data, size_t size);
int write_exact(int fd, const void *data, size_t size);
int writev_exact(int fd, const struct iovec *iov, int count);
void discard_file_cache(xc_interface *xch, int fd, int flush);

#endif
