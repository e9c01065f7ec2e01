/* plane_uring.c: requests through io_uring (Linux 6.14, where root has set fuse's parameter enable_uring).
 *
 * The kernel has a queue for each CPU that could ever be there. A request of a process goes to the queue of the CPU it runs on, into an
 * entry that we have offered there: buffers of ours, and a command of an io_uring that ends when they are filled. The answer is laid
 * into the same buffers, and the next command says so and offers them again. Every queue must have an entry before the kernel uses any.
 *
 * Here each thread has a ring of its own, with one entry in it. The kernel fills an entry by the thread that offered it, so an entry whose
 * thread is busy (a WRITE that waits for a commit, a read of a slow disk, a sync) would keep its requests waiting while others are idle; but
 * ours is offered only while its thread waits for it. What a thread does when it has a request delays nobody else, and one system call
 * answers and waits for the next. The kernel takes the entry that was offered last, so that few threads run where few are needed.
 *
 * No deadlock: a thread holds no lock while it waits for a request, and an entry that was filled comes back when its request is answered.
 * Bytes are answered by the thread itself. Names are answered by pyfuse3, and the thread waits: for the reply thread, which waits for nobody
 * and answers for pyfuse3 when that is gone. So as long as pyfuse3 answers, every queue goes on; pyfuse3 must answer a name without
 * waiting for bytes of the same mount, as all entries of a CPU may be with it, and bytes wait behind them.
 *
 * Nothing but the thread itself submits to its ring (the kernel is told so and interrupts nobody). Who answers for it lays the answer down
 * and posts `answered`. FORGET, INTERRUPT and notifications go through the device as ever, for which few readers are enough.
 *
 * The end: when the connection ends, commands that wait end with -ENOTCONN, later ones are refused with it. If the process is killed the
 * kernel ends them, the device is closed with the last, and the connection with the device. Requests that a dead process had in its
 * entries are not sent again by FUSE_NOTIFY_RESEND: that looks through the requests of devices only.
 *
 * Whoever cannot make the rings after INIT has promised them tells the kernel by a command that is wrong on purpose: it then forgets the
 * promise and uses the device, as long as not every queue has an entry.
 */
#include "plane_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "status.h"

enum {
    /* So many for each CPU: a group of writers that wait for one commit, and names that wait for pyfuse3. */
    DEPTH_MIN = 4,
    DEPTH_MAX = 16,
    THREADS_DEFAULT = 32,
    NO_SUCH_QUEUE = UINT16_MAX,
    SQE_BYTES = 128,
    ERRORS_END = 512, /* the kernel's own begin there */
};

#define ENABLE "/sys/module/fuse/parameters/enable_uring"

#define RING_FLAGS                                                                                                               \
    (IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED)

/* With room for one command. head, tail: of the kernel's two rings. */
typedef struct ring {
    int fd;
    unsigned char *area, *sqe;
    size_t area_bytes;
    _Atomic uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
    const struct io_uring_cqe *completions;
    uint32_t completions_mask;
} ring;

struct vs_plane_entry {
    vs_plane_thread thread; /* buf: the kernel's header, and one page on the payload */
    ring ring;
    uint16_t queue;
    int offered; /* the kernel has taken it */
    uint64_t commit_id, unique;
    sem_t answered;
};

/* ---- one ring ---- */

static int ring_map(ring *r, const struct io_uring_params *p) {
    size_t sq_bytes = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    size_t cq_bytes = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    enum { FLAGS = MAP_SHARED | MAP_POPULATE, BOTH = PROT_READ | PROT_WRITE };
    r->area_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes; /* IORING_FEAT_SINGLE_MMAP: since 5.4 */
    r->area = mmap(NULL, r->area_bytes, BOTH, FLAGS, r->fd, IORING_OFF_SQ_RING);
    if (r->area == MAP_FAILED) return -errno;
    r->sqe = mmap(NULL, SQE_BYTES, BOTH, FLAGS, r->fd, IORING_OFF_SQES);
    if (r->sqe == MAP_FAILED) return -errno;
    r->sq_head = (void *)(r->area + p->sq_off.head);
    r->sq_tail = (void *)(r->area + p->sq_off.tail);
    r->cq_head = (void *)(r->area + p->cq_off.head);
    r->cq_tail = (void *)(r->area + p->cq_off.tail);
    r->completions = (const void *)(r->area + p->cq_off.cqes);
    r->completions_mask = p->cq_entries - 1;
    *(uint32_t *)(void *)(r->area + p->sq_off.array) = 0;
    return 0;
}

static void ring_close(ring *r) {
    if (r->fd < 0) return;
    if (r->area != MAP_FAILED) munmap(r->area, r->area_bytes);
    if (r->sqe != MAP_FAILED) munmap(r->sqe, SQE_BYTES);
    close(r->fd);
    r->fd = -1;
}

/* A ring that does not run yet: who calls ring_begin is the one who uses it. device_fd becomes its file 0. */
static int ring_open(ring *r, int device_fd) {
    struct io_uring_params p = {.flags = RING_FLAGS};
    *r = (ring){.area = MAP_FAILED, .sqe = MAP_FAILED};
    r->fd = (int)syscall(SYS_io_uring_setup, 1, &p);
    if (r->fd < 0) return -errno;
    int code = ring_map(r, &p);
    if (code == 0 && syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_FILES, &device_fd, 1) < 0) code = -errno;
    if (code < 0) ring_close(r);
    return code;
}

static int ring_begin(const ring *r) {
    return syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0 ? -errno : 0;
}

/* Lay down a command for the device; ring_enter gives it to the kernel. */
static void ring_put(ring *r, uint32_t op, uint16_t queue, uint64_t commit_id, const struct iovec parts[2]) {
    struct io_uring_sqe *sqe = (void *)r->sqe;
    struct fuse_uring_cmd_req request = {.commit_id = commit_id, .qid = queue};
    memset(r->sqe, 0, SQE_BYTES);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->cmd_op = op;
    sqe->addr = (uintptr_t)parts;
    sqe->len = parts ? 2 : 0;
    memcpy(sqe->cmd, &request, sizeof request);
    atomic_store_explicit(r->sq_tail, atomic_load_explicit(r->sq_tail, memory_order_relaxed) + 1, memory_order_release);
}

/* Give the kernel what was put, and wait for so many completions. */
static int ring_enter(const ring *r, unsigned wanted) {
    for (;;) {
        uint32_t tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed);
        uint32_t head = atomic_load_explicit(r->sq_head, memory_order_acquire);
        unsigned flags = wanted ? IORING_ENTER_GETEVENTS : 0;
        if (syscall(SYS_io_uring_enter, r->fd, tail - head, wanted, flags, NULL, 0) >= 0) return 0;
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
}

/* 1: one command has ended, *result is its; 0: none has. */
static int ring_take(const ring *r, int *result) {
    uint32_t head = atomic_load_explicit(r->cq_head, memory_order_relaxed);
    if (head == atomic_load_explicit(r->cq_tail, memory_order_acquire)) return 0;
    *result = r->completions[head & r->completions_mask].res;
    atomic_store_explicit(r->cq_head, head + 1, memory_order_release);
    return 1;
}

/* ---- one thread and its entry ---- */

static struct fuse_uring_req_header *header_of(const vs_plane_entry *e) {
    return (void *)e->thread.buf;
}

static unsigned char *payload_of(const vs_plane_entry *e) {
    return e->thread.buf + VS_PLANE_HEAD;
}

/* Offer the entry for the first time: 0, or why the kernel does not take it. */
static int offer(vs_plane_entry *e) {
    struct iovec parts[2] = {{header_of(e), sizeof(struct fuse_uring_req_header)}, {payload_of(e), VS_PLANE_REQUEST_MAX}};
    int result, code = ring_begin(&e->ring);
    if (code < 0) return code;
    ring_put(&e->ring, FUSE_IO_URING_CMD_REGISTER, e->queue, 0, parts);
    code = ring_enter(&e->ring, 0); /* no request is taken, so only a refusal can be there */
    return code == 0 && ring_take(&e->ring, &result) ? result : code;
}

/* Report how the offer went; returns whether to serve. */
static int verdict(vs_plane_uring *u, vs_plane_entry *e, int code) {
    pthread_mutex_lock(&u->mu);
    e->offered = code == 0;
    u->reported++;
    pthread_cond_broadcast(&u->changed);
    while (u->verdict == 0) pthread_cond_wait(&u->changed, &u->mu);
    int go = u->verdict > 0 && e->offered;
    pthread_mutex_unlock(&u->mu);
    return go;
}

/* The next request, after the answer to the one before: 0, or -errno when there will be none. */
static int next(vs_plane_entry *e) {
    int result, code = 0;
    while (code == 0 && !ring_take(&e->ring, &result)) code = ring_enter(&e->ring, 1);
    return code < 0 ? code : result;
}

/* Read the kernel's header: what was asked, and where. */
static int exchange_of(vs_plane_entry *e, vs_plane_exchange *x) {
    const struct fuse_uring_req_header *header = header_of(e);
    const struct fuse_in_header *head = (const void *)header->in_out;
    uint32_t payload_bytes = header->ring_ent_in_out.payload_sz;
    if (payload_bytes > VS_PLANE_REQUEST_MAX || head->len < sizeof *head + payload_bytes) return -EPROTO;
    *x = (vs_plane_exchange){
        .thread = &e->thread,
        .entry = e,
        .head = head,
        .args = header->op_in,
        .args_bytes = head->len - sizeof *head - payload_bytes,
        .data = payload_of(e),
        .data_bytes = payload_bytes,
        .place = payload_of(e),
    };
    e->unique = head->unique;
    e->commit_id = header->ring_ent_in_out.commit_id;
    return x->args_bytes <= sizeof header->op_in ? 0 : -EPROTO;
}

void vs_plane_uring_answer(vs_plane_entry *e, int error, const void *body, size_t body_bytes) {
    struct fuse_uring_req_header *header = header_of(e);
    if (body_bytes > VS_PLANE_REQUEST_MAX || error > 0 || error <= -ERRORS_END) error = -EIO;
    size_t bytes = error ? 0 : body_bytes;
    if (bytes && body != payload_of(e)) memcpy(payload_of(e), body, bytes);
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + bytes), .error = error, .unique = e->unique};
    memcpy(header->in_out, &head, sizeof head);
    header->ring_ent_in_out.payload_sz = (uint32_t)bytes;
    sem_post(&e->answered);
}

static void serve(vs_plane_entry *e) {
    vs_plane_exchange x;
    int code;
    while ((code = next(e)) == 0 && (code = exchange_of(e, &x)) == 0) {
        vs_plane_serve(&x);
        while (sem_wait(&e->answered) != 0) continue;
        ring_put(&e->ring, FUSE_IO_URING_CMD_COMMIT_AND_FETCH, e->queue, e->commit_id, NULL);
    }
    /* As with the device: what we do not expect ends the connection, as an error is better than a hang. */
    if (code != -ENOTCONN && code != -ECONNABORTED && code != -ECANCELED) vs_plane_device_abort(&e->thread.plane->device);
}

/* Stay on the CPU that the requests come from: the process that waits makes room for us, and nobody has to be woken on another CPU (a
 * fifth of all time with 8 readers on 2 CPUs). Not where we may not run. */
static void stay(size_t cpu) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || !CPU_ISSET(cpu, &set)) return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* it may have gone offline: anywhere will do */
}

static void *run(void *arg) {
    vs_plane_entry *e = arg;
    stay(e->queue);
    if (verdict(&e->thread.plane->uring, e, offer(e))) serve(e);
    ring_close(&e->ring);
    return NULL;
}

/* ---- which CPUs ---- */

/* The CPUs in a list of the kernel's, as "0-3,8". */
static int cpus_of(const char *list, cpu_set_t *set) {
    char path[64];
    unsigned first, last;
    CPU_ZERO(set);
    snprintf(path, sizeof path, "/sys/devices/system/cpu/%s", list);
    FILE *f = fopen(path, "re");
    if (!f) return -errno;
    int got, code = 0, separator;
    do {
        got = fscanf(f, "%u", &first);
        last = first;
        if (got == 1 && (separator = fgetc(f)) == '-') {
            got = fscanf(f, "%u", &last);
            separator = fgetc(f);
        }
        if (got != 1 || last >= CPU_SETSIZE) code = -ERANGE;
        else for (unsigned i = first; i <= last; i++) CPU_SET(i, set);
    } while (code == 0 && separator == ',');
    fclose(f);
    return code;
}

/* Queues as the kernel counts them, and how many entries each shall have: one will do where no CPU is that could use it. */
typedef struct layout {
    cpu_set_t online;
    int queues, depth, entries;
} layout;

static int make_layout(layout *plan, int threads) {
    cpu_set_t possible;
    int code = cpus_of("possible", &possible);
    if (code == 0) code = cpus_of("online", &plan->online);
    if (code < 0) return code;
    int online = CPU_COUNT(&plan->online);
    plan->queues = CPU_COUNT(&possible);
    plan->depth = (threads ? threads : THREADS_DEFAULT) / online;
    if (plan->depth < DEPTH_MIN) plan->depth = DEPTH_MIN;
    if (plan->depth > DEPTH_MAX) plan->depth = DEPTH_MAX;
    plan->entries = plan->depth * online + plan->queues - online;
    return plan->entries <= VS_PLANE_THREADS_MAX ? 0 : -E2BIG;
}

/* ---- the start ---- */

static int make_entry(vs_plane *p, int number, int queue) {
    vs_plane_entry *e = &p->uring.entries[number];
    e->queue = (uint16_t)queue;
    e->thread.plane = p;
    e->thread.buf = p->uring.buffers + (size_t)number * VS_PLANE_BUFFER;
    if (sem_init(&e->answered, 0, 0) != 0) return -errno;
    int code = ring_open(&e->ring, p->device.device_fd);
    if (code < 0) sem_destroy(&e->answered);
    return code;
}

static int make_entries(vs_plane *p, const layout *plan) {
    vs_plane_uring *u = &p->uring;
    u->entries = calloc((size_t)plan->entries, sizeof *u->entries);
    if (!u->entries) return -ENOMEM;
    u->buffers_bytes = (size_t)plan->entries * VS_PLANE_BUFFER;
    u->buffers = vs_plane_buffers(u->buffers_bytes);
    if (u->buffers == MAP_FAILED) return -errno;
    int code = 0;
    for (int queue = 0; queue < plan->queues; queue++) {
        int depth = CPU_ISSET((size_t)queue, &plan->online) ? plan->depth : 1;
        for (int i = 0; code == 0 && i < depth; i++) {
            code = make_entry(p, u->made, queue);
            if (code == 0) u->made++;
        }
    }
    return code;
}

static int begin_threads(vs_plane_uring *u) {
    int code = 0;
    while (code == 0 && u->begun < u->made) {
        vs_plane_entry *e = &u->entries[u->begun];
        code = vs_plane_thread_begin(&e->thread.id, run, e, "vsnapfs-io-ring");
        if (code == 0) u->begun++;
    }
    return code;
}

/* Wait until every thread has offered its entry; 0 if each queue has one, as the kernel has it then. */
static int wait_for_offers(vs_plane_uring *u, int queues) {
    cpu_set_t served;
    CPU_ZERO(&served);
    pthread_mutex_lock(&u->mu);
    while (u->reported < u->begun) pthread_cond_wait(&u->changed, &u->mu);
    for (int i = 0; i < u->begun; i++)
        if (u->entries[i].offered) CPU_SET(u->entries[i].queue, &served);
    pthread_mutex_unlock(&u->mu);
    return CPU_COUNT(&served) == queues ? 0 : -EIO;
}

static void decide(vs_plane_uring *u, int verdict_) {
    pthread_mutex_lock(&u->mu);
    u->verdict = verdict_;
    pthread_cond_broadcast(&u->changed);
    pthread_mutex_unlock(&u->mu);
}

/* Make the kernel forget what INIT promised, by an offer for a queue that is not there. */
static void decline(const vs_plane *p) {
    vs_plane_entry e = {.queue = NO_SUCH_QUEUE, .thread.buf = p->buffers}; /* nothing is laid there */
    int code = ring_open(&e.ring, p->device.device_fd);
    if (code < 0 || offer(&e) != -EINVAL) vs_plane_device_abort(&p->device);
    ring_close(&e.ring);
}

static int serve_by_rings(vs_plane *p, int threads) {
    vs_plane_uring *u = &p->uring;
    layout plan;
    int code = make_layout(&plan, threads);
    if (code == 0) code = make_entries(p, &plan);
    if (code < 0) return code;
    int begun = begin_threads(u);
    code = wait_for_offers(u, plan.queues); /* with fewer threads it goes on too, and must: the kernel has begun */
    if (code == 0) atomic_store(&u->serving, u->begun);
    decide(u, code == 0 ? 1 : -1);
    return code < 0 && begun < 0 ? begun : code;
}

static void close_entries(vs_plane_uring *u) {
    while (u->made > 0) {
        vs_plane_entry *e = &u->entries[--u->made];
        ring_close(&e->ring); /* of a thread that never began */
        sem_destroy(&e->answered);
    }
}

int vs_plane_uring_start(vs_plane *p, int threads) {
    int code = serve_by_rings(p, threads);
    if (code == 0) return 0;
    vs_plane_uring_join(&p->uring);
    close_entries(&p->uring);
    decline(p);
    return vs_fault_set(code, 0, 0, 0, 0, "no rings to serve with: %s", strerror(-code));
}

/* A ring that this process may make, and CPUs that can be counted. */
static int can_be_had(void) {
    layout plan;
    ring r;
    int code = make_layout(&plan, 0);
    if (code == 0) code = ring_open(&r, -1);
    if (code == 0) ring_close(&r);
    return code;
}

int vs_plane_uring_wanted(int32_t transport, uint64_t offered) {
    if (transport == VS_PLANE_DEVICE) return 0;
    int is_offered = (offered & FUSE_OVER_IO_URING) != 0;
    int code = is_offered ? can_be_had() : -EOPNOTSUPP;
    if (code == 0) return 1;
    if (transport == VS_PLANE_AUTO) return 0;
    if (is_offered) return vs_fault_set(code, 0, 0, 0, 0, "io_uring cannot be used: %s", strerror(-code));
    return vs_fault_set(code, 0, 0, 0, 0, "the kernel does not offer FUSE over io_uring: it needs Linux 6.14 and " ENABLE " set to Y");
}

/* ---- life ---- */

int vs_plane_uring_init(vs_plane_uring *u) {
    *u = (vs_plane_uring){.buffers = MAP_FAILED};
    int code = -pthread_mutex_init(&u->mu, NULL);
    if (code == 0) code = -pthread_cond_init(&u->changed, NULL);
    return code;
}

void vs_plane_uring_join(vs_plane_uring *u) {
    while (u->begun > 0) pthread_join(u->entries[--u->begun].thread.id, NULL);
}

void vs_plane_uring_end(vs_plane_uring *u) {
    close_entries(u);
    if (u->buffers != MAP_FAILED) munmap(u->buffers, u->buffers_bytes);
    free(u->entries);
    pthread_cond_destroy(&u->changed);
    pthread_mutex_destroy(&u->mu);
}

const vs_plane_tally *vs_plane_uring_tally(const vs_plane_uring *u, int i) {
    return u->entries[i].thread.tally;
}
