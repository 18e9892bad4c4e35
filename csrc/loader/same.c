/* The functions that are the same in all releases: each goes to the library's. */
#include "loader/calls.h"

#include <stddef.h>

#define FORWARD(library, result, name, parameters, arguments) \
    result name parameters                                    \
    {                                                         \
        return loaded_calls.name arguments;                   \
    }

#pragma GCC diagnostic ignored "-Wpedantic" /* a void function that returns another's nothing */
LOADER_SAME(FORWARD)
