/* hold.c: see hold.h. There is no thread that ends a hold in time: whoever would go on then looks at the clock. */
#include "hold.h"

#include <errno.h>

#include "deadline.h"
#include "journal_internal.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

int vs_holds_init(vs_journal *j) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int r = pthread_cond_init(&j->holds.moved, &attr);
    pthread_condattr_destroy(&attr);
    return -r;
}

void vs_holds_end(vs_journal *j) {
    pthread_cond_destroy(&j->holds.moved);
}

static void end_hold(vs_holds *h) {
    h->until_ns = 0;
    pthread_cond_broadcast(&h->moved);
}

void vs_holds_fail(vs_journal *j) {
    if (j->holds.until_ns) end_hold(&j->holds);
}

/* mu held: is one on? One whose time is over is ended here. */
static int is_on(vs_holds *h) {
    if (h->until_ns && vs_deadline_now_ns() >= h->until_ns) end_hold(h);
    return h->until_ns != 0;
}

static void wait_until(vs_journal *j, uint64_t until_ns) {
    struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S), .tv_nsec = (long)(until_ns % NS_PER_S)};
    pthread_cond_timedwait(&j->holds.moved, &j->mu, &until);
}

int vs_hold_wait(vs_journal *j, int *met) {
    vs_holds *h = &j->holds;
    if (!h->until_ns || *met || !is_on(h)) return 0; /* nobody meets two: the second has not begun while one waits for the first */
    *met = 1;
    h->waiting++;
    while (is_on(h)) wait_until(j, h->until_ns);
    return 1;
}

void vs_hold_passed(vs_journal *j, int met) {
    if (!met) return;
    pthread_mutex_lock(&j->mu);
    if (--j->holds.waiting == 0) pthread_cond_broadcast(&j->holds.moved);
    pthread_mutex_unlock(&j->mu);
}

static int refuse(int status, const char *why) {
    return vs_fault_set(status, 0, 0, 0, 0, "writes cannot be held: %s", why);
}

/* mu held: why no hold can begin; -EBUSY: not yet. */
static int refused(vs_journal *j) {
    if (j->holds.ended) return refuse(-ECANCELED, "the repository is being closed");
    if (j->gap.state != VS_GAP_NONE) return refuse(-EIO, "they are not journalled");
    if (j->failed) return refuse(vs_journal_failed(j), "the journal failed");
    return is_on(&j->holds) || j->holds.waiting ? refuse(-EBUSY, "they are held already") : 0;
}

int vs_journal_hold(vs_journal *j, uint32_t milliseconds, vs_hold_position *out) {
    if (!j->options.owner) return refuse(-EROFS, "this journal is open for reading");
    if (milliseconds > VS_HOLD_MS_MAX) return refuse(-EINVAL, "that is longer than 10 s");
    uint64_t length_ns = (milliseconds ? milliseconds : VS_HOLD_MS_DEFAULT) * NS_PER_MS;
    pthread_mutex_lock(&j->mu);
    uint64_t patience_ns = vs_deadline_now_ns() + length_ns;
    int r;
    while ((r = refused(j)) == -EBUSY && vs_deadline_now_ns() < patience_ns) wait_until(j, patience_ns);
    if (r == 0) {
        j->holds.until_ns = vs_deadline_now_ns() + length_ns;
        *out = (vs_hold_position){.hold = ++j->holds.number, .seqno = j->last_seqno, .time_ns = j->last_seqno ? j->last_time_ns : 0};
    }
    pthread_mutex_unlock(&j->mu);
    return r;
}

int vs_journal_let_go(vs_journal *j, uint64_t hold) {
    pthread_mutex_lock(&j->mu);
    int stood = is_on(&j->holds) && j->holds.number == hold;
    if (stood) end_hold(&j->holds);
    pthread_mutex_unlock(&j->mu);
    return stood ? 0 : vs_fault_set(-ETIMEDOUT, 0, 0, 0, 0, "the hold had ended before it was let go");
}

void vs_journal_holds_end(vs_journal *j) {
    pthread_mutex_lock(&j->mu);
    j->holds.ended = 1;
    end_hold(&j->holds);
    pthread_mutex_unlock(&j->mu);
}
