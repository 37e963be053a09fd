/*
 * epoll-loop.c - a migration inside a program's own event loop.
 *
 *   cc -o epoll-loop epoll-loop.c $(pkg-config --cflags --libs libswitchover)
 *   ./epoll-loop SOURCE-MONITOR TARGET-MONITOR URI
 *
 * The library adds one descriptor to the program's loop. When it is readable: dispatch without
 * waiting, then take the events. A timer stands for everything else that such a program does. It
 * ends with 0 when the migration completed, else with 1.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <switchover.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, swo_last_error());
    return -1;
}

static int complain_of_system(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return -1;
}

/* The cluster's own act: from here on the guest belongs to the target's host. A real program renames
 * a file or commits a record, and says FAILED or UNKNOWN when that did not work. */
static int hand_over(swo_migration *migration)
{
    puts("hand-over: recorded");
    return swo_migration_handed_over(migration, SWO_HAND_OVER_DONE) < 0 ? complain("hand-over") : 0;
}

static void print_progress(const swo_migration *migration)
{
    uint64_t total, remaining;

    if (swo_migration_number(migration, SWO_NUMBER_RAM_TOTAL_BYTES, &total) == 0 &&
        swo_migration_number(migration, SWO_NUMBER_RAM_REMAINING_BYTES, &remaining) == 0)
        printf("remaining: %llu of %llu MiB\n", (unsigned long long)remaining >> 20,
               (unsigned long long)total >> 20);
}

/* Returns 1 when the migration has ended, 0 to go on, -1 after an error. */
static int obey(const swo_event *event)
{
    swo_migration *migration = swo_event_migration(event);

    switch (swo_event_kind_of(event)) {
    case SWO_EVENT_PHASE:
        printf("phase: %s\n", swo_phase_name(swo_event_phase(event)));
        return 0;
    case SWO_EVENT_PROGRESS:
        print_progress(migration);
        return 0;
    case SWO_EVENT_HAND_OVER_WANTED:
        return hand_over(migration);
    case SWO_EVENT_WARNING:
        printf("warning: %s\n", swo_event_text(event));
        return 0;
    case SWO_EVENT_FINISHED:
        puts(swo_migration_summary(migration));
        return 1;
    default: /* also what a later version may add */
        return 0;
    }
}

/* The library's turn: never waits. */
static int take_turn(swo_loop *loop)
{
    swo_event *event;
    int result = swo_loop_dispatch(loop, 0);

    if (result == SWO_E_INTERRUPTED)
        return 0; /* the descriptor is still readable */
    if (result < 0)
        return complain("dispatch");
    while ((result = swo_loop_next_event(loop, &event)) > 0) {
        result = obey(event);
        swo_event_free(event);
        if (result != 0)
            return result;
    }
    return result < 0 ? complain("next event") : 0;
}

/* The program's own work, which goes on during the migration. */
static int work(int timer)
{
    uint64_t expirations;

    if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
        return complain_of_system("timer");
    return 0;
}

static int loop_forever(int epoll, int timer, swo_loop *loop)
{
    for (;;) {
        struct epoll_event ready[2];
        int count = epoll_wait(epoll, ready, 2, -1);

        if (count < 0 && errno != EINTR)
            return complain_of_system("epoll_wait");
        for (int index = 0; index < count; index++) {
            int result = ready[index].data.fd == timer ? work(timer) : take_turn(loop);

            if (result != 0)
                return result;
        }
    }
}

static int watch(int epoll, int descriptor)
{
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = descriptor};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &interest);
}

static int serve(swo_loop *loop)
{
    struct itimerspec interval = {{0, 100000000}, {0, 100000000}};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int result;

    if (epoll < 0 || timer < 0 || timerfd_settime(timer, 0, &interval, NULL) < 0 ||
        watch(epoll, timer) < 0 || watch(epoll, swo_loop_fd(loop)) < 0)
        result = complain_of_system("set-up");
    else
        result = loop_forever(epoll, timer, loop);
    if (timer >= 0)
        close(timer);
    if (epoll >= 0)
        close(epoll);
    return result;
}

static int begin(swo_migration *migration, char **arguments)
{
    if (swo_migration_set_monitor(migration, SWO_SIDE_SOURCE, arguments[1]) < 0 ||
        swo_migration_set_monitor(migration, SWO_SIDE_TARGET, arguments[2]) < 0 ||
        swo_migration_set_uri(migration, arguments[3]) < 0 ||
        swo_migration_set_hand_over(migration, SWO_HAND_OVER_BEFORE_RESUME) < 0 ||
        swo_migration_set_source_end(migration, SWO_SOURCE_QUIT) < 0 ||
        swo_migration_start(migration) < 0)
        return complain("migration");
    return 0;
}

int main(int count, char **arguments)
{
    swo_loop *loop = NULL;
    swo_migration *migration = NULL;
    int completed = 0;

    if (count != 4) {
        fprintf(stderr, "usage: %s SOURCE-MONITOR TARGET-MONITOR URI\n", arguments[0]);
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (swo_loop_new(&loop) < 0 || swo_migration_new(loop, &migration) < 0)
        complain("libswitchover");
    else if (begin(migration, arguments) == 0 && serve(loop) > 0)
        completed = swo_migration_end(migration) == SWO_END_COMPLETED;
    swo_migration_free(migration);
    swo_loop_free(loop);
    return completed ? 0 : 1;
}
