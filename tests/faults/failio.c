/* Fail or slow down what a process does with files, as a control file says; for LD_PRELOAD.
 *
 * FAILIO_CONTROL names a file of a fixed size that is mapped, so that a test may switch it while the
 * process runs. A line of it is
 *
 *     OPERATION PART ERRNO DELAY_MS PERCENT AFTER
 *
 * OPERATION is write, sync, read, cut or open; PART is a part of the file's path. A call that matches waits
 * DELAY_MS, and fails with ERRNO in PERCENT of the cases; ERRNO 0 only waits, ERRNO -1 kills the process.
 * AFTER calls that match are let pass first, counted since the line was last changed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIZE 1024

static const char *control;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char counted[SIZE];
static long passed;

static void begin(void) {
    const char *path = getenv("FAILIO_CONTROL");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int handle = path ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (handle < 0) return;
    void *mapped = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, handle, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(handle);
}

/* Give 0 where the call may go on, else the errno that it must fail with. */
static int verdict(const char *operation, const char *path) {
    char line[SIZE], wanted[16], part[256];
    int number, percent, result = 0;
    long delay, after;
    pthread_once(&once, begin);
    if (!control || !control[0] || !path) return 0;
    memcpy(line, control, SIZE - 1);
    line[SIZE - 1] = 0;
    if (sscanf(line, "%15s %255s %d %ld %d %ld", wanted, part, &number, &delay, &percent, &after) != 6) return 0;
    if (strcmp(wanted, operation) || !strstr(path, part)) return 0;
    pthread_mutex_lock(&lock);
    if (strcmp(counted, line)) {
        strcpy(counted, line);
        passed = 0;
    }
    int due = passed++ >= after;
    pthread_mutex_unlock(&lock);
    if (!due) return 0;
    if (delay) {
        struct timespec wait = {delay / 1000, delay % 1000 * 1000000L};
        while (nanosleep(&wait, &wait) && errno == EINTR) {}
    }
    if (random() % 100 < percent) result = number;
    if (result < 0) kill(getpid(), SIGKILL);
    return result;
}

static int verdict_of(const char *operation, int handle) {
    char link[64], path[4096];
    pthread_once(&once, begin);
    if (!control || !control[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return verdict(operation, path);
}

#define REAL(name, type, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define JUDGE(operation, handle)                                \
    do {                                                        \
        int failure = verdict_of(operation, handle);            \
        if (failure) { errno = failure; return -1; }            \
    } while (0)

ssize_t write(int handle, const void *bytes, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    JUDGE("write", handle);
    return real(handle, bytes, size);
}

ssize_t pwrite(int handle, const void *bytes, size_t size, off_t at) {
    REAL("pwrite", ssize_t, int, const void *, size_t, off_t);
    JUDGE("write", handle);
    return real(handle, bytes, size, at);
}

ssize_t pwrite64(int handle, const void *bytes, size_t size, off64_t at) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    JUDGE("write", handle);
    return real(handle, bytes, size, at);
}

ssize_t pread(int handle, void *bytes, size_t size, off_t at) {
    REAL("pread", ssize_t, int, void *, size_t, off_t);
    JUDGE("read", handle);
    return real(handle, bytes, size, at);
}

ssize_t pread64(int handle, void *bytes, size_t size, off64_t at) {
    REAL("pread64", ssize_t, int, void *, size_t, off64_t);
    JUDGE("read", handle);
    return real(handle, bytes, size, at);
}

int fsync(int handle) {
    REAL("fsync", int, int);
    JUDGE("sync", handle);
    return real(handle);
}

int fdatasync(int handle) {
    REAL("fdatasync", int, int);
    JUDGE("sync", handle);
    return real(handle);
}

int ftruncate(int handle, off_t size) {
    REAL("ftruncate", int, int, off_t);
    JUDGE("cut", handle);
    return real(handle, size);
}

int ftruncate64(int handle, off64_t size) {
    REAL("ftruncate64", int, int, off64_t);
    JUDGE("cut", handle);
    return real(handle, size);
}

static mode_t mode_of(int flags, va_list more) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; }

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        REAL(#name, int, const char *, int, ...);               \
        va_list more;                                           \
        va_start(more, flags);                                  \
        mode_t mode = mode_of(flags, more);                     \
        va_end(more);                                           \
        int failure = flags & (O_WRONLY | O_RDWR) ? verdict("open", path) : 0; \
        if (failure) { errno = failure; return -1; }            \
        return real(path, flags, mode);                         \
    }

OPEN(open)
OPEN(open64)
