/* forking SOURCE TARGET URI - forks before, while and after the library works. */
#include "check.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect_success(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Everything but freeing is refused, in whatever order things are freed. */
static void use_what_was_inherited(swo_loop *loop, swo_migration *migration, swo_qmp *qmp)
{
    swo_event *event = NULL;
    swo_migration *other = NULL;
    swo_qmp *client = NULL;
    const char *reply = NULL;
    uint64_t identifier = 0;

    CHECK(swo_loop_dispatch(loop, 0) == SWO_E_FORKED);
    CHECK(strlen(swo_last_error()) > 0);
    CHECK(swo_loop_next_event(loop, &event) == SWO_E_FORKED);
    CHECK(swo_migration_new(loop, &other) == SWO_E_FORKED);
    CHECK(swo_migration_run(migration, 0) == SWO_E_FORKED);
    CHECK(swo_migration_cancel(migration) == SWO_E_FORKED);
    CHECK(swo_qmp_open(loop, "/nowhere", 0, 1000, &client) == SWO_E_FORKED);
    CHECK(swo_qmp_submit(qmp, "quit", NULL, 0, 1000, &identifier) == SWO_E_FORKED);
    CHECK(swo_qmp_execute(qmp, "quit", NULL, 1000, &reply) == SWO_E_FORKED);
}

/* What is made after the fork is the child's own. */
static void use_a_loop_of_its_own(const char *address)
{
    swo_loop *loop = NULL;
    swo_qmp *qmp = NULL;
    const char *reply = NULL;

    CHECK(swo_loop_new(&loop) == 0);
    CHECK(swo_qmp_connect(loop, address, 0, 60000, &qmp) == 0);
    CHECK(swo_qmp_execute(qmp, "query-status", NULL, 60000, &reply) == 0);
    CHECK(strstr(reply, "status"));
    swo_qmp_free(qmp);
    swo_loop_free(loop);
    CHECK(count_threads() == 1);
}

static void fork_before_the_first_handle(const char *address)
{
    pid_t child = fork();

    if (child == 0) {
        use_a_loop_of_its_own(address);
        _exit(0);
    }
    expect_success(child);
}

static void fork_in_the_middle(char **arguments)
{
    swo_loop *loop = NULL;
    swo_qmp *qmp = NULL;
    swo_migration *migration;
    const char *reply = NULL;
    int descriptors;
    pid_t child;

    CHECK(swo_loop_new(&loop) == 0);
    /* The source's second monitor, beside the one that the migration uses. */
    CHECK(swo_qmp_connect(loop, arguments[3], 0, 60000, &qmp) == 0);
    migration = make_migration(loop, arguments);
    CHECK(swo_migration_start(migration) == 0);
    while (swo_migration_phase(migration) < SWO_PHASE_TRANSFERRING)
        CHECK(swo_loop_dispatch(loop, 60000) >= 0 || swo_migration_end(migration) == SWO_END_NONE);

    descriptors = count_entries("/proc/self/fd");
    child = fork();
    if (child == 0) {
        use_what_was_inherited(loop, migration, qmp);
        swo_loop_free(loop);
        swo_migration_free(migration);
        swo_qmp_free(qmp);
        CHECK(count_entries("/proc/self/fd") < descriptors);
        _exit(0);
    }
    expect_success(child);

    /* The parent has lost nothing by that. */
    CHECK(swo_qmp_execute(qmp, "query-status", NULL, 60000, &reply) == 0);
    run_to_the_end(migration);
    CHECK(swo_migration_end(migration) == SWO_END_COMPLETED);
    CHECK(swo_migration_owner(migration) == SWO_OWNER_TARGET);
    swo_qmp_free(qmp);
    swo_migration_free(migration);
    swo_loop_free(loop);
}

int main(int count, char **arguments)
{
    CHECK(count == 5);
    fork_before_the_first_handle(arguments[1]);
    fork_in_the_middle(arguments + 1);
    /* As a daemon does that forks again when its first work is done. */
    fork_before_the_first_handle(arguments[2]);
    return 0;
}
