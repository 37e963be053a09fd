/* count-allocations, to be preloaded: counts what is allocated between the arrival of STOP and the
 * sent `cont`, and writes "allocations N bytes N" to the file of COUNT_ALLOCATIONS_TO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static int is_blackout;
static unsigned long allocations, allocated_bytes;

static void count(size_t size)
{
    if (is_blackout) {
        allocations++;
        allocated_bytes += size;
    }
}

void *malloc(size_t size)
{
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count(number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count(size);
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count(size);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    count(size);
    *result = __libc_memalign(alignment, size);
    return *result ? 0 : ENOMEM;
}

static int contains(const void *bytes, ssize_t length, const char *text)
{
    return length > 0 && memmem(bytes, (size_t)length, text, strlen(text)) != NULL;
}

static void note_received(const void *bytes, ssize_t length)
{
    if (contains(bytes, length, "\"event\": \"STOP\""))
        is_blackout = 1;
}

static void note_sent(const void *bytes, ssize_t length)
{
    const char *path = getenv("COUNT_ALLOCATIONS_TO");
    char line[80];
    int file;

    if (!is_blackout || !contains(bytes, length, "\"cont\""))
        return;
    is_blackout = 0;
    snprintf(line, sizeof line, "allocations %lu bytes %lu\n", allocations, allocated_bytes);
    file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file < 0 || write(file, line, strlen(line)) < 0)
        abort();
    close(file);
}

static void *next(const char *name)
{
    void *address = dlsym(RTLD_NEXT, name);

    if (!address)
        abort();
    return address;
}

ssize_t recv(int descriptor, void *buffer, size_t length, int flags)
{
    static ssize_t (*real)(int, void *, size_t, int);
    ssize_t result;

    if (!real)
        *(void **)&real = next("recv");
    result = real(descriptor, buffer, length, flags);
    note_received(buffer, result);
    return result;
}

ssize_t recvmsg(int descriptor, struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, struct msghdr *, int);
    ssize_t result;

    if (!real)
        *(void **)&real = next("recvmsg");
    result = real(descriptor, message, flags);
    if (message->msg_iovlen > 0)
        note_received(message->msg_iov[0].iov_base, result);
    return result;
}

ssize_t send(int descriptor, const void *buffer, size_t length, int flags)
{
    static ssize_t (*real)(int, const void *, size_t, int);

    if (!real)
        *(void **)&real = next("send");
    note_sent(buffer, (ssize_t)length);
    return real(descriptor, buffer, length, flags);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);

    if (!real)
        *(void **)&real = next("sendmsg");
    for (size_t index = 0; index < message->msg_iovlen; index++)
        note_sent(message->msg_iov[index].iov_base, (ssize_t)message->msg_iov[index].iov_len);
    return real(descriptor, message, flags);
}
