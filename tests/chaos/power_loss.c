/* Preloaded into valkey-server: a disk that is slow, and that forgets at `kill -9` what was not fsynced.
 *
 * CHAOS_FSYNC_MS=20:60    fsync and fdatasync take that long, at random.
 * CHAOS_POWER_LOSS=1      what is written to the append-only file stays in this process until fsync or fdatasync; killing it
 *                         is then what a power cut is to the machine. Now and then a part is "written back" early, as
 *                         kernels do, so that the file may end in the middle of a command.
 *
 * In any other process it does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILES 4096

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_close)(int);

static int slow_from, slow_to, holds;
static unsigned int seed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char *data; size_t size, room; } held[FILES];

__attribute__((constructor)) static void start(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_close = dlsym(RTLD_NEXT, "close");
    if (strcmp(program_invocation_short_name, "valkey-server") != 0) return;
    const char *slow = getenv("CHAOS_FSYNC_MS"), *power = getenv("CHAOS_POWER_LOSS");
    if (slow != NULL) sscanf(slow, "%d:%d", &slow_from, &slow_to);
    holds = power != NULL && strcmp(power, "1") == 0;
    seed = (unsigned int)(getpid() ^ time(NULL));
}

static int is_append_only_file(int fd) {
    if (!holds || fd < 0 || fd >= FILES) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    return size > 9 && memcmp(path + size - 9, ".incr.aof", 9) == 0;
}

/* Gives the first `size` held bytes to the kernel. Returns 0, or -1 with errno. */
static int write_back(int fd, size_t size) {
    size_t done = 0;
    int failed = 0;
    while (done < size && !failed) {
        ssize_t n = real_write(fd, held[fd].data + done, size - done);
        if (n > 0) done += (size_t)n;
        else if (n < 0 && errno != EINTR) failed = 1;
    }
    held[fd].size -= done;
    memmove(held[fd].data, held[fd].data + done, held[fd].size);
    return failed ? -1 : 0;
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!is_append_only_file(fd)) return real_write(fd, data, size);
    pthread_mutex_lock(&lock);
    if (held[fd].size + size > held[fd].room) {
        held[fd].room = 2 * (held[fd].size + size);
        held[fd].data = realloc(held[fd].data, held[fd].room);
        if (held[fd].data == NULL) abort();
    }
    memcpy(held[fd].data + held[fd].size, data, size);
    held[fd].size += size;
    if (rand_r(&seed) % 8 == 0) write_back(fd, (size_t)rand_r(&seed) % (held[fd].size + 1));
    pthread_mutex_unlock(&lock);
    return (ssize_t)size;
}

static void be_slow(void) {
    if (slow_to <= 0) return;
    int ms = slow_from + rand_r(&seed) % (slow_to - slow_from + 1);
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&pause, NULL);
}

static int sync_held(int fd, int (*real)(int)) {
    be_slow();
    if (!is_append_only_file(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    int result = write_back(fd, held[fd].size);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_held(fd, real_fsync); }
int fdatasync(int fd) { return sync_held(fd, real_fdatasync); }

int close(int fd) {
    if (is_append_only_file(fd)) {
        pthread_mutex_lock(&lock);
        write_back(fd, held[fd].size);
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}
