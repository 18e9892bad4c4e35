/* What was sent of the pfns of one leaf. */
#include "sets/sent.h"
#include "base/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 64u

static bool goes_on(const uint32_t *marks, uint32_t first, uint32_t step)
{
    uint32_t differ = 0;
    for (uint32_t i = 0; i < AT_ONCE; i++)
        differ |= marks[i] ^ (first + i * step);
    return !differ;
}

/* Where the run that begins at from ends. */
static uint32_t end_of_run(const uint32_t *marks, uint32_t from, int8_t *step)
{
    uint32_t difference = from + 1 < SENT_PER_LEAF ? marks[from + 1] - marks[from] : 0, to = from + 1;
    *step = difference + 1 < 3 ? (int8_t)difference : 0;
    while (to + AT_ONCE <= SENT_PER_LEAF && goes_on(marks + to, marks[to - 1] + (uint32_t)*step, (uint32_t)*step))
        to += AT_ONCE;
    while (to < SENT_PER_LEAF && marks[to] == marks[to - 1] + (uint32_t)*step)
        to++;
    return to;
}

void sent_clear(struct sent_leaf *t)
{
    if (t->single || t->few)
        free(t->marks);
    *t = (struct sent_leaf){0};
}

static int set_single(struct sent_leaf *t, const uint32_t *marks)
{
    uint32_t *own = t->single ? t->marks : malloc(SENT_PER_LEAF * sizeof *own);
    if (!own)
        return -ENOMEM;
    memcpy(own, marks, SENT_PER_LEAF * sizeof *own);
    if (t->few)
        sent_clear(t);
    *t = (struct sent_leaf){.marks = own, .single = true};
    return 0;
}

static uint32_t nr_of_no_holes(const uint32_t *marks)
{
    uint32_t nr = 0;
    for (uint32_t i = 0; i < SENT_PER_LEAF; i++)
        nr += marks[i] != SENT_HOLE;
    return nr;
}

static uint64_t size_of_few(uint32_t nr)
{
    return nr * (sizeof(uint32_t) + sizeof(uint16_t));
}

static int set_few(struct sent_leaf *t, const uint32_t *marks, uint32_t nr)
{
    uint32_t *own = malloc(size_of_few(nr));
    if (!own)
        return -ENOMEM;
    uint16_t *where = (uint16_t *)(void *)(own + nr);
    for (uint32_t i = 0, k = 0; i < SENT_PER_LEAF; i++) {
        if (marks[i] == SENT_HOLE)
            continue;
        own[k] = marks[i];
        where[k++] = (uint16_t)i;
    }
    sent_clear(t);
    *t = (struct sent_leaf){.marks = own, .at = (uint16_t)nr, .few = true};
    return 0;
}

static int set_others(struct sent_leaf *t, const uint32_t *marks)
{
    uint32_t nr = nr_of_no_holes(marks);
    return nr <= SENT_FEW ? set_few(t, marks, nr) : set_single(t, marks);
}

#define OF_MALLOC 16u /* what malloc takes besides, about */

uint64_t sent_bytes(const struct sent_leaf *t)
{
    if (t->few)
        return size_of_few(t->at) + OF_MALLOC;
    return t->single ? SENT_PER_LEAF * sizeof *t->marks + OF_MALLOC : 0;
}

int sent_set(struct sent_leaf *t, const uint32_t *marks)
{
    struct sent_leaf runs = {.first = {marks[0], 0}};
    uint32_t at = end_of_run(marks, 0, &runs.step[0]), end = at;
    if (at < SENT_PER_LEAF) {
        runs.first[1] = marks[at];
        end = end_of_run(marks, at, &runs.step[1]);
    }
    if (end < SENT_PER_LEAF)
        return set_others(t, marks);
    runs.at = (uint16_t)at;
    sent_clear(t);
    *t = runs;
    return 0;
}

static bool is_untouched(const struct sent_leaf *t)
{
    return !t->first[0] && !t->first[1] && !t->at && !t->step[0] && !t->step[1];
}

/* Up to its second run, of which nothing was sent, the leaf is a run that the i-th goes on. Or is it in that run? */
static bool is_next(const struct sent_leaf *t, uint32_t i, uint32_t first, int8_t step)
{
    return i && t->at >= i && t->step[0] == step && t->first[0] + i * (uint32_t)step == first;
}

bool sent_add_run(struct sent_leaf *t, uint32_t i, uint32_t nr, uint32_t first, int8_t step)
{
    if (t->single || t->few || nr < 2)
        return false;
    if (is_untouched(t) && !i)
        *t = (struct sent_leaf){.first = {first, SENT_NEVER}, .at = (uint16_t)nr, .step = {step, 0}};
    else if (is_untouched(t) && i + nr == SENT_PER_LEAF)
        *t = (struct sent_leaf){.first = {SENT_NEVER, first}, .at = (uint16_t)i, .step = {0, step}};
    else if (is_next(t, i, first, step) && t->at == i && t->first[1] == SENT_NEVER && !t->step[1])
        t->at = (uint16_t)(i + nr);
    else
        return t->at >= i + nr && t->step[0] == step && t->first[0] + i * (uint32_t)step == first;
    return true;
}

void sent_some(const struct sent_leaf *t, uint32_t from, uint32_t nr, uint32_t *marks)
{
    const uint16_t *where = sent_where(t);
    for (uint32_t i = 0; i < nr; i++)
        marks[i] = SENT_HOLE;
    for (uint32_t k = sent_before(t, from); k < t->at && where[k] < from + nr; k++)
        marks[where[k] - from] = t->marks[k];
}

void sent_marks(const struct sent_leaf *t, uint32_t *marks)
{
    if (t->few) {
        sent_some(t, 0, SENT_PER_LEAF, marks);
        return;
    }
    if (t->single) {
        memcpy(marks, t->marks, SENT_PER_LEAF * sizeof *marks);
        return;
    }
    for (uint32_t i = 0; i < t->at; i++)
        marks[i] = t->first[0] + i * (uint32_t)t->step[0];
    for (uint32_t i = t->at; i < SENT_PER_LEAF; i++)
        marks[i] = t->first[1] + (i - t->at) * (uint32_t)t->step[1];
}
