#include "owner_thread.h"

#include "journal_internal.h"

enum { EARLY_PART = 4 };

int __wrap_vs_journal_worker_start(vs_journal *j);

int __wrap_vs_journal_worker_start(vs_journal *j) {
    j->working = 0;
    return 0;
}

void owner_thread_turn(vs_journal *j, uint64_t drawn) {
    pthread_mutex_lock(&j->mu);
    if (drawn & 1 && !j->failed && j->batch[j->filling].payload_blocks * VS_BLOCK_BYTES >= j->options.batch_bytes / EARLY_PART) vs_journal_lead_flush(j);
    if (drawn & 2 && j->sync_wanted) {
        j->sync_wanted = 0;
        vs_journal_sync_primaries(j, 0, j->written_seqno);
    }
    pthread_mutex_unlock(&j->mu);
}

void owner_thread_beside(vs_journal *j) {
    if (pthread_mutex_trylock(&j->mu) != 0) return;
    int syncing = 0;
    for (size_t i = 0; i < j->primary_count; i++) syncing |= j->primaries[i]->syncing_from != 0;
    if (!syncing) vs_journal_sync_primaries(j, 0, j->written_seqno);
    pthread_mutex_unlock(&j->mu);
}
