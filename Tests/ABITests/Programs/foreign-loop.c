/* foreign-loop SOURCE TARGET URI - the one descriptor tells the truth: readable while and only while
 * there is something to do. */
#include "check.h"

#include <poll.h>

static int is_readable(swo_loop *loop, int timeout_ms)
{
    struct pollfd entry = {.fd = swo_loop_fd(loop), .events = POLLIN};
    int result = poll(&entry, 1, timeout_ms);

    CHECK(result >= 0);
    return result > 0;
}

int main(int count, char **arguments)
{
    swo_loop *loop = NULL;
    swo_migration *migration;
    int idle_turns = 0, turns = 0, finished = 0;

    CHECK(count == 4);
    CHECK(swo_loop_new(&loop) == 0);
    CHECK(!is_readable(loop, 0));
    migration = make_migration(loop, arguments + 1);
    CHECK(!is_readable(loop, 0));
    CHECK(swo_migration_start(migration) == 0);

    while (!finished) {
        int waiting;

        CHECK(is_readable(loop, 120000));
        waiting = swo_loop_dispatch(loop, 0);
        CHECK(waiting >= 0);
        turns++;
        idle_turns += waiting == 0;
        /* One event a turn: those that are left must keep the descriptor readable. */
        if (waiting > 0) {
            swo_event *event = NULL;

            CHECK(is_readable(loop, 0));
            CHECK(swo_loop_next_event(loop, &event) == 1);
            finished = swo_event_kind_of(event) == SWO_EVENT_FINISHED;
            swo_event_free(event);
        }
    }
    CHECK(swo_migration_end(migration) == SWO_END_COMPLETED);
    swo_migration_free(migration);
    CHECK(swo_loop_dispatch(loop, 0) == 0);
    CHECK(!is_readable(loop, 0));
    swo_loop_free(loop);
    printf("%d turns, %d without an event\n", turns, idle_turns);
    return 0;
}
