/* What Python may call of the loader, besides xcsr_api.h: like that one, header and cdef at once. */
#ifndef XCSR_LOADER_API_H
#define XCSR_LOADER_API_H
#include "xcsr_api.h"

/* A release of Xen as XENVER_version has it: major << 16 | minor. 0: not known. */
typedef struct xcsr_loaded {
    uint32_t release; /* of libxenctrl */
    uint32_t running; /* of the hypervisor, as far as it was known */
    uint32_t domctl;  /* version of the domctl interface; 0: this release is not in the table */
    uint32_t reserved;
    char ctrl[256], guest[256], foreignmemory[256], store[256]; /* the files */
} xcsr_loaded;

/* Opens Xen's libraries and looks up each function that the core calls; nothing is asked of Xen but its release. path: of
 * a libxenctrl, whose neighbours are taken before any others; NULL: that of the Xen that runs. running: its release, 0:
 * it is asked here. Once they are open they stay, for the whole process: then path and running count for nothing.
 * An error, described by *why, leaves nothing open: ENOENT a library cannot be loaded, ENOSYS one lacks functions, EACCES
 * it is of another release than the hypervisor, which would refuse its requests. */
int xcsr_load(const char *path, uint32_t running, xcsr_error *why);
/* What was opened; -ENODATA: nothing. */
int xcsr_loaded_now(xcsr_loaded *out);
/* The release of the Xen that runs, by libxencall; 0: there is none, or it cannot be asked. */
uint32_t xcsr_running(void);

#endif
