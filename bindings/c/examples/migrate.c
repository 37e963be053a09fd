/*
 * migrate.c - the shortest complete migration: it blocks until the guest has moved.
 *
 *   cc -o migrate migrate.c $(pkg-config --cflags --libs libswitchover)
 *   ./migrate SOURCE-MONITOR TARGET-MONITOR URI
 *   ./migrate /run/vm-a.qmp /run/vm-b.qmp unix:/run/vm-b.migration
 *
 * The target's QEMU waits with `-incoming defer` or `-incoming URI`. The exit status tells who may
 * run the guest now: 0 the target, 1 the source, 2 nobody or unknown.
 */
#include <stdio.h>
#include <switchover.h>

/* Prints why the last call failed. */
static int complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, swo_last_error());
    return -1;
}

static int describe(swo_migration *migration, char **arguments)
{
    if (swo_migration_set_monitor(migration, SWO_SIDE_SOURCE, arguments[1]) < 0)
        return complain("source");
    if (swo_migration_set_monitor(migration, SWO_SIDE_TARGET, arguments[2]) < 0)
        return complain("target");
    if (swo_migration_set_uri(migration, arguments[3]) < 0)
        return complain("uri");
    /* No cluster keeps a record of where the guest is, so there is nobody to hand it over to. */
    if (swo_migration_set_hand_over(migration, SWO_HAND_OVER_NONE) < 0)
        return complain("hand-over");
    if (swo_migration_set_source_end(migration, SWO_SOURCE_QUIT) < 0)
        return complain("source end");
    return 0;
}

static int run(swo_migration *migration)
{
    int result;

    if (swo_migration_start(migration) < 0)
        return complain("start");
    do
        result = swo_migration_run(migration, -1);
    while (result == SWO_E_INTERRUPTED);
    return result < 0 ? complain("run") : 0;
}

/* The ledger of the blackout: where its time went. */
static void print_ledger(const swo_migration *migration)
{
    uint64_t blackout;

    if (swo_migration_number(migration, SWO_NUMBER_BLACKOUT_US, &blackout) == 0)
        printf("blackout %.1f ms\n", blackout / 1000.0);
    for (int index = 0; index < swo_migration_ledger_count(migration); index++) {
        const char *name;
        int64_t length;

        if (swo_migration_ledger_part(migration, index, &name, NULL, &length) == 0)
            printf("  %-24s %8.1f ms\n", name, length / 1000.0);
    }
}

static int status_of_owner(int owner)
{
    switch (owner) {
    case SWO_OWNER_TARGET:
        return 0;
    case SWO_OWNER_SOURCE:
        return 1;
    default: /* nobody, unknown, and whatever a later version adds */
        return 2;
    }
}

int main(int count, char **arguments)
{
    swo_loop *loop = NULL;
    swo_migration *migration = NULL;
    int status = 2;

    if (count != 4) {
        fprintf(stderr, "usage: %s SOURCE-MONITOR TARGET-MONITOR URI\n", arguments[0]);
        return 64;
    }
    if (swo_loop_new(&loop) < 0 || swo_migration_new(loop, &migration) < 0) {
        complain("libswitchover");
    } else if (describe(migration, arguments) < 0) {
        status = 1; /* nothing was begun */
    } else if (run(migration) == 0) {
        puts(swo_migration_summary(migration));
        print_ledger(migration);
        status = status_of_owner(swo_migration_owner(migration));
    }
    swo_migration_free(migration);
    swo_loop_free(loop);
    return status;
}
