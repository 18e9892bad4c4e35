/* Lists of numbers that grow: of freed frames, of gfns. */
#include "stub/machine/base.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 256U

int st_list_add(uint64_t **list, uint64_t *nr, uint64_t *room, uint64_t number)
{
    if (*nr == *room) {
        uint64_t more = *room ? 2 * *room : FIRST_ROOM;
        uint64_t *grown = realloc(*list, more * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        *list = grown;
        *room = more;
    }
    (*list)[(*nr)++] = number;
    return 0;
}
