/* loading LIBRARY - loads the library late, as a plug-in is loaded, and looks at what that did. */
#include "check.h"

#include <dlfcn.h>
#include <signal.h>
#include <string.h>

static void *handlers[65];

static void *handler_of(int signal)
{
    struct sigaction action;

    if (sigaction(signal, NULL, &action) != 0)
        return NULL;
    return (void *)action.sa_handler;
}

static void *find(void *library, const char *name)
{
    void *address = dlsym(library, name);

    if (!address) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return address;
}

int main(int count, char **arguments)
{
    void *library;
    uint32_t (*version)(void);
    int (*loop_new)(swo_loop **);
    void (*loop_free)(swo_loop *);
    swo_loop *loop = NULL;
    int descriptors = count_entries("/proc/self/fd");

    for (int signal = 1; signal < 65; signal++)
        handlers[signal] = handler_of(signal);
    library = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&version = find(library, "swo_version");
    *(void **)&loop_new = find(library, "swo_loop_new");
    *(void **)&loop_free = find(library, "swo_loop_free");

    if (version() != SWO_VERSION || loop_new(&loop) != 0 || count_threads() != 1) {
        fprintf(stderr, "version %x, %d threads\n", version(), count_threads());
        return 1;
    }
    loop_free(loop);
    for (int signal = 1; signal < 65; signal++) {
        if (handler_of(signal) != handlers[signal]) {
            fprintf(stderr, "signal %d has another handler\n", signal);
            return 1;
        }
    }
    if (count_entries("/proc/self/fd") != descriptors) {
        fprintf(stderr, "descriptors stay open\n");
        return 1;
    }
    /* It stays: its code may still be called, and its runtime could not be loaded twice. */
    dlclose(library);
    return version() == SWO_VERSION && count_threads() == 1 ? 0 : 1;
}
