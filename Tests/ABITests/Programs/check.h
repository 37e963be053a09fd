/* What the test programs have in common: a claim that does not hold ends the program with 1. */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <switchover.h>

#define CHECK(claim)                                                                               \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #claim,                \
                    swo_last_error());                                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The number of entries of a directory such as /proc/self/task. */
static inline int count_entries(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int count = 0;

    if (!directory)
        return -1;
    while ((entry = readdir(directory)))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static inline int count_threads(void)
{
    return count_entries("/proc/self/task");
}

/* A migration as most tests want it: nobody to hand over to, the source ends. */
static inline swo_migration *make_migration(swo_loop *loop, char **addresses)
{
    swo_migration *migration = NULL;

    CHECK(swo_migration_new(loop, &migration) == 0);
    CHECK(swo_migration_set_monitor(migration, SWO_SIDE_SOURCE, addresses[0]) == 0);
    CHECK(swo_migration_set_monitor(migration, SWO_SIDE_TARGET, addresses[1]) == 0);
    CHECK(swo_migration_set_uri(migration, addresses[2]) == 0);
    CHECK(swo_migration_set_hand_over(migration, SWO_HAND_OVER_NONE) == 0);
    CHECK(swo_migration_set_source_end(migration, SWO_SOURCE_QUIT) == 0);
    return migration;
}

static inline void run_to_the_end(swo_migration *migration)
{
    int result;

    do
        result = swo_migration_run(migration, 120000);
    while (result == SWO_E_INTERRUPTED);
    CHECK(result == 1);
    puts(swo_migration_summary(migration));
}

#endif
