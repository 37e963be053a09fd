/* rounds ROUNDS PATH SOURCE TARGET URI - makes, starts and frees migrations, and prints how many bytes
 * are allocated, and how many pages are resident, after the tenth round and after the last. Every
 * round runs a preflight to its end with real monitors, and frees a migration in the middle of its
 * work with one that the program plays at the path. */
#include "check.h"
#include "listen.h"

#include <malloc.h>

static void run_preflight(char **addresses)
{
    swo_loop *loop = NULL;
    swo_migration *migration;
    swo_event *event = NULL;

    CHECK(swo_loop_new(&loop) == 0);
    migration = make_migration(loop, addresses);
    CHECK(swo_migration_check(migration) == 0);
    CHECK(swo_migration_run(migration, 120000) == 1);
    if (swo_migration_end(migration) != SWO_END_COMPLETED) {
        fprintf(stderr, "%s\n", swo_migration_summary(migration));
        exit(1);
    }
    while (swo_loop_next_event(loop, &event) == 1)
        swo_event_free(event);
    swo_migration_free(migration);
    swo_loop_free(loop);
}

/* Against a monitor that greets and then answers nothing. */
static void abandon_in_the_middle(int listener, char *path)
{
    static const char greeting[] =
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, "
        "\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n";
    char *addresses[] = {path, path, "unix:/nowhere"};
    swo_loop *loop = NULL;
    swo_migration *migration;
    int monitors[2];
    char received[4096];

    CHECK(swo_loop_new(&loop) == 0);
    migration = make_migration(loop, addresses);
    CHECK(swo_migration_start(migration) == 0);
    for (int index = 0; index < 2; index++) {
        monitors[index] = accept(listener, NULL, NULL);
        CHECK(write(monitors[index], greeting, sizeof greeting - 1) > 0);
    }
    CHECK(swo_loop_dispatch(loop, 60000) >= 0);
    /* The loop first: the order does not matter. */
    swo_loop_free(loop);
    swo_migration_free(migration);
    for (int index = 0; index < 2; index++) {
        while (read(monitors[index], received, sizeof received) > 0)
            ;
        close(monitors[index]);
    }
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
    static char output[4096];
    int rounds, listener;

    CHECK(count == 6);
    rounds = atoi(arguments[1]);
    listener = listen_at(arguments[2]);
    setvbuf(stdout, output, _IOLBF, sizeof output); /* else it is allocated in between */
    for (int round = 1; round <= rounds; round++) {
        run_preflight(arguments + 3);
        abandon_in_the_middle(listener, arguments[2]);
        if (round == 10 || round == rounds)
            print_use(round);
    }
    close(listener);
    return 0;
}
