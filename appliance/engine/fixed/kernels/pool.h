/* Threads that share the units of one job. Which thread takes which unit never reaches a bit. */
#ifndef ANCHORHOLD_POOL_H
#define ANCHORHOLD_POOL_H

typedef struct Pool Pool;

Pool *pool_new(int threads);                /* the caller counts as one; 0 when a thread can't be had */
void pool_free(Pool *pool);
int pool_threads(const Pool *pool);

/* run(context, unit, thread) for every unit below `units`; returns when all are done. One caller at a time. */
void pool_run(Pool *pool, int units, void (*run)(void *context, int unit, int thread), void *context);

#endif
