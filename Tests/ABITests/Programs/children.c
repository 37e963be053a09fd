/* children WAY SOURCE TARGET URI CARRIER SSH... - a migration by ssh in a program that has its own ways
 * with children and forks. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT_LIMIT = 256 };

/* The directory that the log speaks of. */
static char private_directory[REPORT_LIMIT];

/* Collects whatever child ends, as daemons do; nobody else learns how it ended. */
static void *collect_everything(void *unused)
{
    for (;;)
        if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
            usleep(1000);
    return unused;
}

static void collect_in_a_thread(void)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, collect_everything, NULL) == 0);
    CHECK(pthread_detach(thread) == 0);
}

static int parent_of(const char *process)
{
    char path[64], line[512] = "";
    FILE *file;
    char *end;
    int parent = 0;

    snprintf(path, sizeof path, "/proc/%.20s/stat", process);
    file = fopen(path, "r");
    if (!file)
        return 0;
    if (fgets(line, sizeof line, file) && (end = strrchr(line, ')')))
        sscanf(end + 1, " %*c %d", &parent);
    fclose(file);
    return parent;
}

/* The children of this process, those included that have ended and nobody has collected. */
static int count_children(void)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    int count = 0;

    CHECK(processes);
    while ((entry = readdir(processes)))
        count += parent_of(entry->d_name) == getpid();
    closedir(processes);
    return count;
}

static void hear(swo_loop *loop)
{
    swo_event *event = NULL;

    while (swo_loop_next_event(loop, &event) == 1) {
        const char *text = swo_event_text(event);
        const char *place = strstr(text, ", in /");

        CHECK(swo_event_kind_of(event) != SWO_EVENT_WARNING);
        if (place)
            snprintf(private_directory, sizeof private_directory, "%s", place + strlen(", in "));
        swo_event_free(event);
    }
}

static void turn(swo_loop *loop)
{
    int result = swo_loop_dispatch(loop, 60000);

    CHECK(result >= 0 || result == SWO_E_INTERRUPTED);
    hear(loop);
}

/* A copy that lets go of everything, before the original ends or after it, as `gate` says; a negative
 * gate does not hold it up. */
static pid_t fork_copy(swo_loop *loop, swo_migration *migration, int gate)
{
    char byte;
    pid_t child = fork();

    if (child != 0)
        return child;
    if (gate >= 0)
        CHECK(read(gate, &byte, 1) == 1);
    CHECK(swo_loop_dispatch(loop, 0) == SWO_E_FORKED);
    swo_migration_free(migration);
    swo_loop_free(loop);
    _exit(0);
}

static void expect_success(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int count, char **arguments)
{
    const char *way = arguments[1];
    int forks = count > 1 && strcmp(way, "forks") == 0;
    int ends[2];
    pid_t late = 0;
    swo_loop *loop = NULL;
    swo_migration *migration;

    CHECK(count > 6);
    if (strcmp(way, "ignores") == 0)
        CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    if (strcmp(way, "collects") == 0)
        collect_in_a_thread();
    CHECK(pipe(ends) == 0);

    CHECK(swo_loop_new(&loop) == 0);
    CHECK(swo_loop_set_ssh(loop, atoi(arguments[5]), (const char **)arguments + 6, 0) == 0);
    migration = make_migration(loop, arguments + 2);
    CHECK(swo_migration_start(migration) == 0);
    while (swo_migration_phase(migration) < SWO_PHASE_TRANSFERRING)
        turn(loop);
    CHECK(strlen(private_directory) > 0);
    CHECK(access(private_directory, F_OK) == 0);
    if (forks) {
        late = fork_copy(loop, migration, ends[0]);
        expect_success(fork_copy(loop, migration, -1));
        CHECK(access(private_directory, F_OK) == 0);
    }
    while (swo_migration_end(migration) == SWO_END_NONE)
        turn(loop);
    CHECK(swo_migration_end(migration) == SWO_END_COMPLETED);
    CHECK(swo_migration_owner(migration) == SWO_OWNER_TARGET);
    swo_migration_free(migration);
    swo_loop_free(loop);
    if (forks) {
        CHECK(write(ends[1], "", 1) == 1);
        expect_success(late);
    }
    CHECK(count_children() == 0);
    CHECK(access(private_directory, F_OK) < 0);
    return 0;
}
