/* Internal: the functions as they were found. Until a library is loaded all are NULL, and nobody has a handle to call one
 * with: xcsr_open is refused. */
#ifndef XCSR_LOADER_CALLS_H
#define XCSR_LOADER_CALLS_H

#include "loader/library.h"
#include "loader/release.h"
#include "loader/table.h"

#define SAME_MEMBER(library, result, name, parameters, arguments) __typeof__(&name) name;
#define FORM_MEMBER(library, symbol, first, last, name, result, parameters) result(*name) parameters;

struct calls {
    LOADER_SAME(SAME_MEMBER)
    LOADER_FORMS(FORM_MEMBER)
};

extern struct calls loaded_calls;
/* The line of the release that was loaded; *known: it is that release's own. */
const struct release *loaded_release(bool *known);

#endif
