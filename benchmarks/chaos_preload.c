/* Preloaded into a build by benchmarks.chaos: a disk with a bad block, and a clock that jumps.

   One read of one file fails. CHAOS_PATH is the file, CHAOS_NTH which of a process's reads fails, CHAOS_MARK a file
   that is made when one did: after that none does, in any process. A page of a mapped file fails as the kernel lets
   it, by SIGBUS.

   CHAOS_CLOCK is a file of 8 bytes: how many seconds the time of day is ahead, at any moment. Monotonic clocks and
   the times of files are as they are. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int strikes(int descriptor) {
    static atomic_int calls;
    const char *victim = getenv("CHAOS_PATH"), *nth = getenv("CHAOS_NTH"), *mark = getenv("CHAOS_MARK");
    char link[64], path[4096];
    if (!victim || !nth || !mark) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strcmp(path, victim) || atomic_fetch_add(&calls, 1) + 1 < atoi(nth)) return 0;
    int made = open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (made < 0) return 0;
    close(made);
    errno = EIO;
    return 1;
}

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *to, size_t size) { return strikes(fd) ? -1 : NEXT(read)(fd, to, size); }

ssize_t pread(int fd, void *to, size_t size, off_t at) { return strikes(fd) ? -1 : NEXT(pread)(fd, to, size, at); }

ssize_t pread64(int fd, void *to, size_t size, off64_t at) {
    return strikes(fd) ? -1 : NEXT(pread64)(fd, to, size, at);
}

ssize_t readv(int fd, const struct iovec *to, int count) { return strikes(fd) ? -1 : NEXT(readv)(fd, to, count); }

size_t fread(void *to, size_t size, size_t count, FILE *file) {
    if (strikes(fileno(file))) {
        file->_flags |= 0x20; /* _IO_ERR_SEEN: what ferror() looks at */
        return 0;
    }
    return NEXT(fread)(to, size, count, file);
}

static void *mapped(void *found, size_t length, int fd) {
    if (fd >= 0 && found != MAP_FAILED && strikes(fd)) {
        long page = sysconf(_SC_PAGESIZE);
        char *last = (char *)found + (length - 1) / page * page;
        int empty = memfd_create("lost", MFD_CLOEXEC);
        NEXT(mmap)(last, page, PROT_READ, MAP_PRIVATE | MAP_FIXED, empty, 0);
        close(empty);
    }
    return found;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return mapped(NEXT(mmap)(at, length, protection, flags, fd, offset), length, fd);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mapped(NEXT(mmap64)(at, length, protection, flags, fd, offset), length, fd);
}

static time_t ahead_s(void) {
    static _Atomic(const volatile long long *) clock;
    if (!clock) {
        static const volatile long long none = 0;
        const char *path = getenv("CHAOS_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *found = file < 0 ? MAP_FAILED : NEXT(mmap)(0, sizeof *clock, PROT_READ, MAP_SHARED, file, 0);
        clock = found == MAP_FAILED ? &none : found;
        if (file >= 0) close(file);
    }
    return *clock;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = NEXT(clock_gettime)(id, now);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead_s();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = NEXT(gettimeofday)(now, zone);
    if (!result) now->tv_sec += ahead_s();
    return result;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict end) {
    struct timespec real = {end->tv_sec - ahead_s(), end->tv_nsec};
    return NEXT(sem_timedwait)(semaphore, &real);
}
