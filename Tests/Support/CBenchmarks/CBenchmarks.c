#define _GNU_SOURCE
#include "CBenchmarks.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_ulong allocations;

static void count(void) { atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed); }

unsigned long bench_allocations(void) { return atomic_load(&allocations); }

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count();
    return __libc_realloc(old, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    count();
    *result = __libc_memalign(alignment, size);
    return *result ? 0 : ENOMEM;
}

long long bench_thread_nanoseconds(pthread_t thread)
{
    clockid_t clock;
    struct timespec time = {0, 0};
    if (pthread_getcpuclockid(thread, &clock) == 0)
        clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void bench_echo(int input, int output)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, input, &event);
    for (;;) {
        char byte;
        if (epoll_wait(set, &event, 1, -1) < 1)
            continue;
        if (recv(input, &byte, 1, MSG_DONTWAIT) <= 0)
            break;
        send(output, &byte, 1, MSG_NOSIGNAL);
    }
    close(set);
}

int bench_wait(int first, int second)
{
    struct pollfd watched[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    while (poll(watched, 2, -1) < 1)
        ;
    return watched[0].revents ? first : second;
}

size_t bench_heap_bytes(void) { return mallinfo2().uordblks; }

long bench_find_end(const void *text, size_t text_count, const void *pattern, size_t pattern_count)
{
    const char *found = memmem(text, text_count, pattern, pattern_count);
    return found ? found - (const char *)text + (long)pattern_count : -1;
}

void bench_line_buffering(void) { setvbuf(stdout, NULL, _IOLBF, 0); }
