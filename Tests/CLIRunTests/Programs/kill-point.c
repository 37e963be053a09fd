/* Loaded into the program ahead of the C library: kills it at one chosen point of its work.

   A point lies in front of every call that another process or a disk could notice, and half-way
   through everything that is sent or written. KILL_POINT says which one (from 1); without it the
   points are only counted. KILL_POINT_COUNT names a file that gets their number at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long chosen, count;
static char count_file[4096];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *number = getenv("KILL_POINT"), *path = getenv("KILL_POINT_COUNT");
    chosen = number ? strtol(number, NULL, 10) : 0;
    if (path)
        snprintf(count_file, sizeof count_file, "%s", path);
    /* What the program starts is not meant. */
    unsetenv("LD_PRELOAD");
    unsetenv("KILL_POINT_COUNT");
}

__attribute__((destructor)) static void end(void)
{
    FILE *file = *count_file ? fopen(count_file, "w") : NULL;
    if (file) {
        fprintf(file, "%ld", count);
        fclose(file);
    }
}

static void die(void)
{
    raise(SIGKILL);
    for (;;)
        pause();
}

static void point(void)
{
    if (++count == chosen)
        die();
}

ssize_t send(int descriptor, const void *bytes, size_t length, int flags)
{
    point();
    if (++count == chosen) {
        REAL(send)(descriptor, bytes, length / 2, flags);
        die();
    }
    return REAL(send)(descriptor, bytes, length, flags);
}

ssize_t write(int descriptor, const void *bytes, size_t length)
{
    struct stat status;

    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
        point();
        if (++count == chosen) {
            REAL(write)(descriptor, bytes, length / 2);
            die();
        }
    }
    return REAL(write)(descriptor, bytes, length);
}

int epoll_wait(int epoll, struct epoll_event *events, int capacity, int timeout)
{
    point();
    return REAL(epoll_wait)(epoll, events, capacity, timeout);
}

int connect(int descriptor, const struct sockaddr *address, socklen_t length)
{
    point();
    return REAL(connect)(descriptor, address, length);
}

int fsync(int descriptor)
{
    point();
    return REAL(fsync)(descriptor);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    point();
    return REAL(renameat)(from_folder, from, to_folder, to);
}
