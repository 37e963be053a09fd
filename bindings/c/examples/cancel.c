/*
 * cancel.c - a migration that Ctrl-C takes back while that is still possible.
 *
 *   cc -o cancel cancel.c $(pkg-config --cflags --libs libswitchover)
 *   ./cancel SOURCE-MONITOR TARGET-MONITOR URI BYTES-A-SECOND
 *
 * The library waits no longer than for a signal: swo_migration_run() returns SWO_E_INTERRUPTED, and
 * the program decides. A cancel is a request: the end says what became of it. The exit status is 0
 * when the migration completed, 1 when it was cancelled with the guest on the source, 2 otherwise.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <switchover.h>

static volatile sig_atomic_t is_cancel_wanted;

static void want_cancel(int signal)
{
    (void)signal;
    is_cancel_wanted = 1;
}

static int complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, swo_last_error());
    return -1;
}

static int begin(swo_migration *migration, char **arguments)
{
    char *end;
    uint64_t bandwidth;

    errno = 0;
    bandwidth = strtoumax(arguments[4], &end, 10);
    if (errno != 0 || end == arguments[4] || *end != '\0') {
        fprintf(stderr, "'%s' is not a number of bytes a second\n", arguments[4]);
        return -1;
    }
    if (swo_migration_set_monitor(migration, SWO_SIDE_SOURCE, arguments[1]) < 0 ||
        swo_migration_set_monitor(migration, SWO_SIDE_TARGET, arguments[2]) < 0 ||
        swo_migration_set_uri(migration, arguments[3]) < 0 ||
        swo_migration_set_bandwidth(migration, bandwidth) < 0 ||
        swo_migration_set_hand_over(migration, SWO_HAND_OVER_NONE) < 0 ||
        swo_migration_set_source_end(migration, SWO_SOURCE_QUIT) < 0 ||
        swo_migration_start(migration) < 0)
        return complain("migration");
    return 0;
}

static int cancel(swo_migration *migration)
{
    int result = swo_migration_cancel(migration);

    is_cancel_wanted = 0;
    if (result == SWO_E_TOO_LATE) {
        puts("too late to cancel: the guest is moving");
        return 0;
    }
    if (result < 0)
        return complain("cancel");
    puts("cancelling");
    return 0;
}

/* Runs in slices: a signal that arrives just before the wait is seen after half a second. */
static int run(swo_migration *migration)
{
    int shown_phase = SWO_PHASE_IDLE;

    for (;;) {
        int result = swo_migration_run(migration, 500);

        if (swo_migration_phase(migration) != shown_phase) {
            shown_phase = swo_migration_phase(migration);
            printf("phase: %s\n", swo_phase_name(shown_phase));
        }
        if (result > 0)
            return 0;
        if (result < 0 && result != SWO_E_INTERRUPTED)
            return complain("run");
        if (is_cancel_wanted && cancel(migration) < 0)
            return -1;
    }
}

static int status_of_end(const swo_migration *migration)
{
    puts(swo_migration_summary(migration));
    if (swo_migration_end(migration) == SWO_END_COMPLETED)
        return 0;
    if (swo_migration_end(migration) == SWO_END_CANCELLED &&
        swo_migration_owner(migration) == SWO_OWNER_SOURCE)
        return 1;
    return 2;
}

int main(int count, char **arguments)
{
    struct sigaction action;
    swo_loop *loop = NULL;
    swo_migration *migration = NULL;
    int status = 2;

    if (count != 5) {
        fprintf(stderr, "usage: %s SOURCE-MONITOR TARGET-MONITOR URI BYTES-A-SECOND\n",
                arguments[0]);
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* Without SA_RESTART, so that the wait ends. */
    memset(&action, 0, sizeof action);
    action.sa_handler = want_cancel;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (swo_loop_new(&loop) < 0 || swo_migration_new(loop, &migration) < 0)
        complain("libswitchover");
    else if (begin(migration, arguments) == 0 && run(migration) == 0)
        status = status_of_end(migration);
    swo_migration_free(migration);
    swo_loop_free(loop);
    return status;
}
