/* The logger interface of libxentoollog, as far as this project uses it. See README. */
#ifndef XCSR_ABI_XENTOOLLOG_H
#define XCSR_ABI_XENTOOLLOG_H

#include <stdarg.h>

typedef enum xentoollog_level {
    XTL_NONE = 0,
    XTL_DEBUG = 1,
    XTL_VERBOSE = 2,
    XTL_DETAIL = 3,
    XTL_PROGRESS = 4,
    XTL_INFO = 5,
    XTL_NOTICE = 6,
    XTL_WARN = 7,
    XTL_ERROR = 8,
    XTL_CRITICAL = 9,
    XTL_NUM_LEVELS = 10
} xentoollog_level;

typedef struct xentoollog_logger xentoollog_logger;

struct xentoollog_logger {
    void (*vmessage)(struct xentoollog_logger *logger, xentoollog_level level,
                     int errnoval, const char *context, const char *format,
                     va_list al) __attribute__((format(printf, 5, 0)));
    void (*progress)(struct xentoollog_logger *logger, const char *context,
                     const char *doing_what, int percent, unsigned long done,
                     unsigned long total);
    void (*destroy)(struct xentoollog_logger *logger);
};

#endif
