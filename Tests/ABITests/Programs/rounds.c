/* rounds ROUNDS SOURCE TARGET URI - makes, starts and frees migrations, and prints how many bytes
 * are allocated, and how many pages are resident, after the tenth round and after the last. Every
 * round runs a preflight to its end and leaves a migration behind in the middle. */
#include "check.h"

#include <malloc.h>
#include <unistd.h>

static void run_preflight(char **addresses)
{
    swo_loop *loop = NULL;
    swo_migration *migration;
    swo_event *event = NULL;

    CHECK(swo_loop_new(&loop) == 0);
    migration = make_migration(loop, addresses);
    CHECK(swo_migration_check(migration) == 0);
    CHECK(swo_migration_run(migration, 120000) == 1);
    CHECK(swo_migration_end(migration) == SWO_END_COMPLETED);
    while (swo_loop_next_event(loop, &event) == 1)
        swo_event_free(event);
    swo_migration_free(migration);
    swo_loop_free(loop);
}

static void abandon_in_the_middle(char **addresses)
{
    swo_loop *loop = NULL;
    swo_migration *migration;

    CHECK(swo_loop_new(&loop) == 0);
    migration = make_migration(loop, addresses);
    CHECK(swo_migration_check(migration) == 0);
    CHECK(swo_loop_dispatch(loop, 0) >= 0);
    /* The loop first: the order does not matter. */
    swo_loop_free(loop);
    swo_migration_free(migration);
}

static void print_use(int round)
{
    struct mallinfo2 heap = mallinfo2();
    FILE *file = fopen("/proc/self/statm", "r");
    long total = 0, resident = 0;

    CHECK(file && fscanf(file, "%ld %ld", &total, &resident) == 2);
    fclose(file);
    printf("%d %zu %ld\n", round, heap.uordblks + heap.hblkhd, resident);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    int rounds;

    CHECK(count == 5);
    rounds = atoi(arguments[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int round = 1; round <= rounds; round++) {
        run_preflight(arguments + 2);
        abandon_in_the_middle(arguments + 2);
        if (round == 10 || round == rounds)
            print_use(round);
    }
    return 0;
}
