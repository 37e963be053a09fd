/* interrupted MONITOR PATH - a signal ends every wait, whatever is waited for. At the path the program
 * listens itself and never says a word. */
#include "check.h"
#include "listen.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t signals;

static void note(int signal)
{
    (void)signal;
    signals++;
}

/* Again and again, so that no wait can begin just after the last one. */
static void begin_signals(void)
{
    struct sigaction action;
    struct itimerval interval = {{0, 50000}, {0, 50000}};

    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &interval, NULL) == 0);
}

int main(int count, char **arguments)
{
    swo_loop *loop = NULL;
    swo_qmp *qmp = NULL, *silent = NULL;
    swo_migration *migration;
    const char *reply = NULL;
    char *addresses[3];
    int listener;

    CHECK(count == 3);
    listener = listen_at(arguments[2]);
    CHECK(swo_loop_new(&loop) == 0);
    CHECK(swo_qmp_connect(loop, arguments[1], 0, 60000, &qmp) == 0);
    addresses[0] = addresses[1] = arguments[2];
    addresses[2] = "unix:/nowhere";
    migration = make_migration(loop, addresses);
    CHECK(swo_migration_set_monitor_deadlines(migration, 600000, 600000) == 0);

    begin_signals();
    CHECK(swo_loop_dispatch(loop, -1) == SWO_E_INTERRUPTED);
    CHECK(swo_loop_dispatch(loop, 600000) == SWO_E_INTERRUPTED);
    CHECK(swo_qmp_connect(loop, arguments[2], 0, 600000, &silent) == SWO_E_INTERRUPTED);
    CHECK(silent == NULL);
    CHECK(swo_migration_start(migration) == 0);
    CHECK(swo_migration_run(migration, -1) == SWO_E_INTERRUPTED);
    CHECK(swo_migration_end(migration) == SWO_END_NONE);

    /* Nothing is broken by that: what is asked again is answered. */
    while (swo_qmp_execute(qmp, "query-status", NULL, 60000, &reply) == SWO_E_INTERRUPTED)
        ;
    CHECK(reply && strstr(reply, "running"));
    CHECK(signals >= 4);
    swo_migration_free(migration);
    swo_qmp_free(qmp);
    swo_loop_free(loop);
    close(listener);
    return 0;
}
