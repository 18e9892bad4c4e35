/* Internal: Xen's libraries as files: found, opened, and what is in them. */
#ifndef XCSR_LOADER_LIBRARY_H
#define XCSR_LOADER_LIBRARY_H

#include "base/base.h"

enum library_id { CTRL, GUEST, FMEM, STORE, NR_LIBRARIES };

struct libraries {
    uint32_t release; /* of libxenctrl, as its soname says */
    void *handles[NR_LIBRARIES];
};

/* Opens libxenctrl by its path, or by its soname for a release: that of the hypervisor or, if that is not known (0), of
 * the newest in the table that is here; then the others. On an error nothing is left open. */
int libraries_open(struct libraries *out, const char *path, uint32_t running, xcsr_error *why);
void libraries_close(struct libraries *l);
/* The file that a library was loaded from; the text is the library's. */
const char *library_file(void *handle);
/* A function; NULL: it is in none of those in which it may be. */
void *libraries_find(const struct libraries *l, enum library_id home, const char *symbol);

#endif
