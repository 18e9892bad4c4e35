/* Internal: what every room needs: sizes, the error record's one writer, a clock. No Xen header. */
#ifndef XCSR_BASE_H
#define XCSR_BASE_H

#include "xcsr_api.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define XCSR_PAGE 4096u
#define XCSR_INVALID (~0ULL)

/* Fills the error and returns -err. errno of 0 (libxc has such paths) becomes EIO. */
int xcsr_fail(xcsr_error *e, enum xcsr_error_kind kind, int err, const char *op, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
int64_t xcsr_now_us(void); /* a clock that only goes forward */

#endif
