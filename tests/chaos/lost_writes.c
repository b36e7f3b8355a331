/* Preloaded into a process that spools: a disk whose fsync fails now and then, and whose kernel then drops what was
 * written since the last one that succeeded, as Linux may. A later fsync succeeds nevertheless.
 *
 * CHAOS_LOST_WRITES=PATH    while that file exists, fsync and fdatasync of a spool's file fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static const char *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct change {
    struct change *before;
    int fd;
    off64_t offset;
    size_t size;
    char old[];
} *changes;

__attribute__((constructor)) static void start(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    control = getenv("CHAOS_LOST_WRITES");
}

static int is_spool(int fd) {
    if (control == NULL) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strstr(path, ".sqlite3") != NULL;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    if (is_spool(fd)) {
        struct change *change = calloc(1, sizeof *change + size);
        if (change == NULL) abort();
        *change = (struct change){.fd = fd, .offset = offset, .size = size};
        if (pread64(fd, change->old, size, offset) < 0) abort();
        pthread_mutex_lock(&lock);
        change->before = changes;
        changes = change;
        pthread_mutex_unlock(&lock);
    }
    return real_pwrite(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

static int sync_or_lose(int fd, int (*real)(int)) {
    if (!is_spool(fd)) return real(fd);
    int fails = access(control, F_OK) == 0;
    pthread_mutex_lock(&lock);
    for (struct change **place = &changes; *place != NULL;) {
        struct change *change = *place;
        if (change->fd != fd) {
            place = &change->before;
            continue;
        }
        if (fails && real_pwrite(fd, change->old, change->size, change->offset) < 0) abort();
        *place = change->before;
        free(change);
    }
    pthread_mutex_unlock(&lock);
    if (!fails) return real(fd);
    errno = EIO;
    return -1;
}

int fsync(int fd) { return sync_or_lose(fd, real_fsync); }
int fdatasync(int fd) { return sync_or_lose(fd, real_fdatasync); }
