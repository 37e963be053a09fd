/*
 * qmp.c - the QMP client by itself: runs one command, then prints what QEMU announced meanwhile.
 *
 *   cc -o qmp qmp.c $(pkg-config --cflags --libs libswitchover)
 *   ./qmp MONITOR COMMAND [ARGUMENTS-AS-JSON]
 *   ./qmp /run/vm-a.qmp query-status
 *
 * Exit status: 0, 1 when QEMU refused the command, 2 when there was no answer.
 */
#include <stdio.h>
#include <switchover.h>

#define TIMEOUT_MS 5000

static void complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, swo_last_error());
}

static int execute(swo_qmp *qmp, const char *command, const char *arguments_json)
{
    const char *reply;
    int result = swo_qmp_execute(qmp, command, arguments_json, TIMEOUT_MS, &reply);

    if (result == 0) {
        puts(reply);
        return 0;
    }
    complain(command);
    return result == SWO_E_QMP ? 1 : 2;
}

static void print_events(swo_loop *loop)
{
    swo_event *event;

    while (swo_loop_next_event(loop, &event) > 0) {
        if (swo_event_kind_of(event) == SWO_EVENT_QMP_EVENT)
            printf("%s %s\n", swo_event_name(event), swo_event_json(event));
        swo_event_free(event);
    }
}

int main(int count, char **arguments)
{
    swo_loop *loop = NULL;
    swo_qmp *qmp = NULL;
    int status = 2;

    if (count != 3 && count != 4) {
        fprintf(stderr, "usage: %s MONITOR COMMAND [ARGUMENTS-AS-JSON]\n", arguments[0]);
        return 64;
    }
    if (swo_loop_new(&loop) < 0) {
        complain("libswitchover");
    } else if (swo_qmp_connect(loop, arguments[1], 0, TIMEOUT_MS, &qmp) < 0) {
        complain(arguments[1]);
    } else {
        uint32_t version = swo_qmp_version(qmp);

        fprintf(stderr, "QEMU %u.%u.%u\n", (unsigned)version >> 16, (unsigned)(version >> 8) & 255,
                (unsigned)version & 255);
        status = execute(qmp, arguments[2], count == 4 ? arguments[3] : NULL);
        print_events(loop);
    }
    swo_qmp_free(qmp);
    swo_loop_free(loop);
    return status;
}
