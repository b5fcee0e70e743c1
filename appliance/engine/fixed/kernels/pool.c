/* A job is a counter from which threads take units. A helper that wakes late finds nothing left and holds nobody up:
 * the caller waits only for helpers that are inside the job. Waiting is a short look, then sleep, so that a box with
 * more threads than processors loses little.
 */
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "numbers.h"

enum { LOOKS = 4000 };

typedef struct {
    void (*run)(void *, int, int);
    void *context;
    int units;
    atomic_int next;
} Job;

typedef struct {
    Pool *pool;
    pthread_t thread;
    int index;
} Helper;

struct Pool {
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    Job *job;                       /* under lock */
    int asleep, waiting, ended;     /* under lock */
    atomic_uint_fast64_t number;    /* of the newest job */
    atomic_int inside;              /* helpers in the job */
    int threads;
    Helper helpers[];
};

static void breathe(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_units(Job *job, int thread) {
    for (;;) {
        int unit = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        if (unit >= job->units) return;
        job->run(job->context, unit, thread);
    }
}

static void *help(void *argument) {
    Helper *self = argument;
    Pool *pool = self->pool;
    uint_fast64_t seen = 0;
    plain_numbers();
    for (;;) {
        for (int i = 0; i < LOOKS && atomic_load_explicit(&pool->number, memory_order_acquire) == seen; i++) breathe();
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->number) == seen && !pool->ended) {
            pool->asleep++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->asleep--;
        }
        if (pool->ended) break;
        seen = atomic_load(&pool->number);
        Job *job = pool->job;
        if (job) atomic_fetch_add(&pool->inside, 1);
        pthread_mutex_unlock(&pool->lock);
        if (!job) continue;
        take_units(job, self->index);
        if (atomic_fetch_sub_explicit(&pool->inside, 1, memory_order_acq_rel) != 1) continue;
        pthread_mutex_lock(&pool->lock);
        if (pool->waiting) pthread_cond_signal(&pool->idle);
        pthread_mutex_unlock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

Pool *pool_new(int threads) {
    Pool *pool = calloc(1, sizeof *pool + (size_t)threads * sizeof(Helper));
    if (!pool) return 0;
    pthread_mutex_init(&pool->lock, 0);
    pthread_cond_init(&pool->work, 0);
    pthread_cond_init(&pool->idle, 0);
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        Helper *helper = &pool->helpers[pool->threads];
        helper->pool = pool;
        helper->index = pool->threads;
        if (pthread_create(&helper->thread, 0, help, helper)) {
            pool_free(pool);
            return 0;
        }
    }
    return pool;
}

void pool_free(Pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->ended = 1;
    atomic_fetch_add(&pool->number, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->helpers[i].thread, 0);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int pool_threads(const Pool *pool) { return pool->threads; }

void pool_run(Pool *pool, int units, void (*run)(void *, int, int), void *context) {
    if (units <= 1 || pool->threads == 1) {
        for (int unit = 0; unit < units; unit++) run(context, unit, 0);
        return;
    }
    Job job = {run, context, units, 0};
    pthread_mutex_lock(&pool->lock);
    pool->job = &job;
    atomic_fetch_add_explicit(&pool->number, 1, memory_order_release);
    if (pool->asleep) pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    take_units(&job, 0);
    pthread_mutex_lock(&pool->lock);
    pool->job = 0;                  /* nobody enters any more */
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < LOOKS && atomic_load_explicit(&pool->inside, memory_order_acquire); i++) breathe();
    pthread_mutex_lock(&pool->lock);
    pool->waiting = 1;
    while (atomic_load(&pool->inside)) pthread_cond_wait(&pool->idle, &pool->lock);
    pool->waiting = 0;
    pthread_mutex_unlock(&pool->lock);
}
