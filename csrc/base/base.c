/* The error record, and the clock. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

int xcsr_fail(xcsr_error *e, enum xcsr_error_kind kind, int err, const char *op, const char *fmt, ...)
{
    va_list al;
    e->kind = kind;
    e->err = err > 0 ? err : EIO;
    snprintf(e->op, sizeof e->op, "%s", op);
    va_start(al, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, al);
    va_end(al);
    return -e->err;
}

int64_t xcsr_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}
