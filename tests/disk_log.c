/* Loaded into a process before libc: logs all that changes the files below a folder, in the order in which it happens.
 *
 * DISK_LOG_FOLDER: the folder (absolute, resolved); DISK_LOG: where the log goes. A record is five little-endian u64 (what, bytes of the
 * path, offset, length, 0), the path and, for a write, its bytes. One lock is held around each call and its record, so
 * that a sync covers exactly the writes that stand before it. tests/power.py reads the log. What it does not know
 * (mmap, rename, writev) it cannot log; tests/power.py compares what it rebuilds with the files to see that none is missed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE, TRUNCATE, SYNC, CREATE, UNLINK, MKDIR };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -2;

static ssize_t put(const void *bytes, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    for (size_t done = 0; done < length;) {
        ssize_t n = real(log_fd, (const char *)bytes + done, length - done);
        if (n <= 0) abort();
        done += n;
    }
    return length;
}

static void note(int what, const char *path, uint64_t offset, const void *bytes, uint64_t length) {
    const char *folder = getenv("DISK_LOG_FOLDER"), *log = getenv("DISK_LOG");
    size_t n = folder ? strlen(folder) : 0;
    if (!n || !log || strncmp(path, folder, n) || (path[n] && path[n] != '/')) return;
    if (log_fd == -2) log_fd = openat(AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    uint64_t head[5] = {what, strlen(path), offset, length, 0};
    put(head, sizeof head);
    put(path, head[1]);
    if (bytes) put(bytes, length);
}

static void note_fd(int what, int fd, uint64_t offset, const void *bytes, uint64_t length) {
    char link[64] = "/proc/self/fd/", path[PATH_MAX], digits[12];
    int at = 0, kept = 0;
    for (int rest = fd; at == 0 || rest; rest /= 10) digits[at++] = '0' + rest % 10;
    for (kept = strlen(link); at;) link[kept++] = digits[--at];
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return;
    path[n] = 0;
    note(what, path, offset, bytes, length);
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    pthread_mutex_lock(&lock); \
    if (!real) real = dlsym(RTLD_NEXT, name);
#define DONE(result) \
    pthread_mutex_unlock(&lock); \
    return result;

#define WRITES(name) ssize_t name(int fd, const void *bytes, size_t length, off64_t at) { \
    REAL(ssize_t, #name, int, const void *, size_t, off64_t) \
    ssize_t n = real(fd, bytes, length, at); if (n > 0) { note_fd(WRITE, fd, at, bytes, n); } DONE(n) }
#define TRUNCATES(name) int name(int fd, off64_t length) { \
    REAL(int, #name, int, off64_t) int n = real(fd, length); if (!n) { note_fd(TRUNCATE, fd, length, 0, 0); } DONE(n) }
#define SYNCS(name) int name(int fd) { \
    REAL(int, #name, int) int n = real(fd); if (!n) { note_fd(SYNC, fd, 0, 0, 0); } DONE(n) }
#define OPENS(name) int name(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); int mode = flags & O_CREAT ? va_arg(rest, int) : 0; va_end(rest); \
    REAL(int, #name, const char *, int, ...) int fresh = flags & O_CREAT && access(path, F_OK); \
    int fd = real(path, flags, mode); if (fresh && fd >= 0) { note_fd(CREATE, fd, 0, 0, 0); } \
    if (flags & O_TRUNC && fd >= 0) { note_fd(TRUNCATE, fd, 0, 0, 0); } DONE(fd) }

WRITES(pwrite) WRITES(pwrite64) TRUNCATES(ftruncate) TRUNCATES(ftruncate64) SYNCS(fsync) SYNCS(fdatasync)
OPENS(open) OPENS(open64)

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t)
    ssize_t n = real(fd, bytes, length);
    if (n > 0) note_fd(WRITE, fd, lseek(fd, 0, SEEK_CUR) - n, bytes, n);
    DONE(n)
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *) int n = real(path); if (!n) { note(UNLINK, path, 0, 0, 0); } DONE(n)
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t) int n = real(path, mode); if (!n) { note(MKDIR, path, 0, 0, 0); } DONE(n)
}
