/*
 * switchover.h - live migration of QEMU virtual machines with the switchover done right.
 *
 * The contract of libswitchover. Everything here keeps these rules:
 *
 *  - Handles are opaque. Functions are named swo_<object>_<verb>; the handle comes first, results come
 *    last and are named *_out. swo_*_free(NULL) does nothing; the order in which handles are freed does
 *    not matter: a migration or client that outlives its loop only answers SWO_E_CLOSED.
 *  - A function returns 0 or a positive count, or one of the negative SWO_E_* codes; swo_last_error()
 *    then has the text for this thread, until the next call that fails.
 *  - Strings that come in are UTF-8 and copied. Strings that go out belong to the handle they were asked
 *    from, and stay valid until that handle changes (dispatch) or is freed, unless stated otherwise.
 *  - Enumerations only grow. A program must accept values that it does not know.
 *  - No thread is started, no signal handler is installed, and nothing exists before the first handle.
 *    One thread at a time may use a loop and what belongs to it; different loops are independent.
 *  - After fork() the child may only free what it inherited, which closes descriptors and sends nothing;
 *    every other call answers SWO_E_FORKED.
 *  - No callback is ever called: results are events, pulled with swo_loop_next_event().
 */
#ifndef SWITCHOVER_H
#define SWITCHOVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* This header's version. The library's own is swo_version(). */
#define SWO_VERSION_MAJOR 0
#define SWO_VERSION_MINOR 1
#define SWO_VERSION_PATCH 0
#define SWO_VERSION ((SWO_VERSION_MAJOR << 16) | (SWO_VERSION_MINOR << 8) | SWO_VERSION_PATCH)

#if defined(__clang__)
#define SWO_ENUM(name) enum __attribute__((enum_extensibility(open))) name
#else
#define SWO_ENUM(name) enum name
#endif

typedef struct swo_loop swo_loop;           /* one thread's set of migrations and clients */
typedef struct swo_migration swo_migration; /* one migration of one guest */
typedef struct swo_qmp swo_qmp;             /* one QMP client */
typedef struct swo_event swo_event;         /* one thing that happened */
typedef struct swo_recovery swo_recovery;   /* one recovery of a migration whose manager has gone */
typedef struct swo_journal swo_journal;     /* what a journal said when it was read */

/* ---- Codes ------------------------------------------------------------------------------------- */

/* What a call answers when it could not do what it was asked. Stable numbers. */
typedef SWO_ENUM(swo_code) {
  SWO_OK = 0,
  SWO_E_INVALID = -1,     /* an argument is NULL, out of range, or not what the text says it must be */
  SWO_E_STATE = -2,       /* not possible at this point of the handle's life */
  SWO_E_SYSTEM = -3,      /* a system call failed; the text names it and its error */
  SWO_E_INTERRUPTED = -4, /* a signal arrived while waiting; call again */
  SWO_E_TIMEOUT = -5,     /* the deadline passed; for a command: the outcome is unknown */
  SWO_E_TOO_LATE = -6,    /* the switchover is past the point where it can be cancelled */
  SWO_E_FORKED = -7,      /* this process is a fork of the one that made the handle */
  SWO_E_LIMIT = -8,       /* a documented limit is reached */
  SWO_E_BUSY = -9,        /* another client holds the monitor */
  SWO_E_CONNECT = -10,    /* nobody answers at that address */
  SWO_E_PROTOCOL = -11,   /* the other side does not speak QMP, or breaks its rules */
  SWO_E_QMP = -12,        /* QEMU answered the command with an error */
  SWO_E_LOST = -13,       /* the connection ended; the outcome of what was in flight is unknown */
  SWO_E_CLOSED = -14,     /* the handle's loop or connection is gone */
  SWO_E_INTERNAL = -15    /* the library contradicts itself; please report it */
} swo_code;

/* The text of the last failed call of this thread: one line, never NULL, valid until the next failure. */
const char *swo_last_error(void);

/* A short constant English name for a code of swo_code, such as "too late"; never NULL. */
const char *swo_code_name(int code);

/* The version of the library in the form of SWO_VERSION. */
uint32_t swo_version(void);

/* The version of the library as text, such as "0.1.0". */
const char *swo_version_string(void);

/* ---- Words ------------------------------------------------------------------------------------- */

typedef SWO_ENUM(swo_side) { SWO_SIDE_NONE = 0, SWO_SIDE_SOURCE = 1, SWO_SIDE_TARGET = 2 } swo_side;

/* Who may run the guest now. */
typedef SWO_ENUM(swo_owner) {
  SWO_OWNER_SOURCE = 1,
  SWO_OWNER_TARGET = 2,
  SWO_OWNER_NOBODY = 3, /* both stand; the next step says which one may be resumed */
  SWO_OWNER_UNKNOWN = 4 /* a reply was lost; nothing may be resumed before that is settled */
} swo_owner;

typedef SWO_ENUM(swo_guest) {
  SWO_GUEST_UNKNOWN = 0,
  SWO_GUEST_RUNNING = 1,
  SWO_GUEST_PAUSED = 2,
  SWO_GUEST_OFF = 3
} swo_guest;

typedef SWO_ENUM(swo_phase) {
  SWO_PHASE_IDLE = 0,
  SWO_PHASE_CONNECTING = 1,
  SWO_PHASE_PREFLIGHT = 2,
  SWO_PHASE_PREPARING = 3,
  SWO_PHASE_MIRRORING = 4,
  SWO_PHASE_TRANSFERRING = 5,
  SWO_PHASE_SWITCHING_OVER = 6,
  SWO_PHASE_HANDING_OVER = 7,
  SWO_PHASE_ACTIVATING = 8,
  SWO_PHASE_FINISHING = 9,
  SWO_PHASE_UNDOING = 10,
  SWO_PHASE_ENDED = 11
} swo_phase;

typedef SWO_ENUM(swo_end) {
  SWO_END_NONE = 0,
  SWO_END_COMPLETED = 1,
  SWO_END_CANCELLED = 2,
  SWO_END_FAILED = 3,
  SWO_END_UNKNOWN = 4
} swo_end;

/* When the host program moves ownership in its own cluster (for example, renames a config file). */
typedef SWO_ENUM(swo_hand_over) {
  SWO_HAND_OVER_BEFORE_RESUME = 1, /* default: after the load is proven, before the target runs */
  SWO_HAND_OVER_AFTER_RESUME = 2,  /* fastest; only with a cluster lock that outlives the source node */
  SWO_HAND_OVER_NONE = 3,          /* no cluster */
  SWO_HAND_OVER_EXTERNAL = 4       /* the host program resumes the target itself; when it is told to, both
                                      monitors are free and are looked at briefly from then on */
} swo_hand_over;

typedef SWO_ENUM(swo_hand_over_result) {
  SWO_HAND_OVER_DONE = 1,
  SWO_HAND_OVER_FAILED = 2, /* ownership is certainly still with the source */
  SWO_HAND_OVER_UNKNOWN = 3 /* it may have moved: nothing is resumed by the library */
} swo_hand_over_result;

/* What becomes of the source's QEMU once the target runs. There is no default: a source that is left
 * standing can be resumed by anybody, and without image locks it would run. */
typedef SWO_ENUM(swo_source_end) {
  SWO_SOURCE_QUIT = 1, /* the library ends it with `quit` after the target's RESUME is confirmed */
  SWO_SOURCE_KEEP = 2  /* the host program ends it */
} swo_source_end;

/* What to do about mirrors that are not in sync at their deadline. */
typedef SWO_ENUM(swo_sync_policy) {
  SWO_SYNC_FAIL = 1,    /* the migration fails; the guest stays */
  SWO_SYNC_WAIT = 2,    /* a warning, and the mirrors go on */
  SWO_SYNC_THROTTLE = 3 /* a warning, and each write of the guest waits until the target has it */
} swo_sync_policy;

/* Whether other programs use a monitor too. QEMU serves one client a monitor; the others wait. */
typedef SWO_ENUM(swo_monitor_sharing) {
  SWO_MONITOR_EXCLUSIVE = 1, /* it is held from the start to the end (default) */
  SWO_MONITOR_SHARED = 2     /* it is let go of whenever somebody waits and the guest allows it */
} swo_monitor_sharing;

/* Constant English names, such as "source", "nobody", "switching over"; never NULL. */
const char *swo_owner_name(int owner);
const char *swo_guest_name(int guest);
const char *swo_phase_name(int phase);
const char *swo_end_name(int end);

/* ---- Loop -------------------------------------------------------------------------------------- */

/* Makes a loop. Errors: SWO_E_SYSTEM. Free with swo_loop_free(). Since 0.1. */
int swo_loop_new(swo_loop **loop_out);

/* Frees a loop and closes every connection of its migrations and clients. A migration that has not
 * ended is left as it is: QEMU goes on by itself, and nobody grants. Their handles stay valid. */
void swo_loop_free(swo_loop *loop);

/* One descriptor for poll, epoll, glib and the like, owned by the loop. It is readable exactly while
 * swo_loop_dispatch(loop, 0) would make progress or swo_loop_next_event() would return an event. */
int swo_loop_fd(swo_loop *loop);

/* Waits at most timeout_ms milliseconds (0: not at all, negative: without limit) for something to do,
 * and does it. Returns the number of events now waiting, or SWO_E_INTERRUPTED after a signal. */
int swo_loop_dispatch(swo_loop *loop, int timeout_ms);

/* Takes the oldest event. Returns 1 and an event to be freed with swo_event_free(), or 0 if none waits. */
int swo_loop_next_event(swo_loop *loop, swo_event **event_out);

/* How the other hosts of ssh addresses ("ssh://[user@]host[:port]/path") are reached. */
typedef SWO_ENUM(swo_ssh_carrier) {
  /* Default. libssh2 carries the monitor where it can log in, the system's ssh memory and disks, and each
   * the other's part where that one cannot. A SWO_EVENT_LOG says who carries what, and why. */
  SWO_SSH_AUTO = 1,
  SWO_SSH_LIBSSH2 = 2, /* only libssh2, in this process */
  SWO_SSH_SYSTEM = 3   /* only the system's ssh, as a child */
} swo_ssh_carrier;

/* Sets how ssh addresses are reached by everything that is started or opened in the loop from now on.
 *
 * carrier is one of swo_ssh_carrier. command is the ssh command as a NULL-terminated list of at most 128
 * arguments, each of at most 4096 bytes: program and options, such as {"ssh", "-F", "/etc/my/config",
 * "-o", "HostKeyAlias=node2", NULL}; NULL: {"ssh", NULL}. What ssh's configuration says under these
 * options (`ssh -G`) holds for both carriers: user, port, keys, known hosts, aliases. With an address
 * that names no host ("ssh:///path") the command's last argument is the destination. login_ms bounds each
 * step of a login, 100 to 600000 milliseconds; 0: 30000.
 *
 * Host keys are always checked: an unknown or changed one is an error, and a command that sets
 * StrictHostKeyChecking, BatchMode, ExitOnForwardFailure or ControlPath otherwise is refused at the
 * start. Nobody is asked for a passphrase: use an agent. Since 0.1. */
int swo_loop_set_ssh(
    swo_loop *loop, int carrier, const char *const *command, uint32_t login_ms);

/* ---- Events ------------------------------------------------------------------------------------ */

typedef SWO_ENUM(swo_event_kind) {
  SWO_EVENT_PHASE = 1,            /* a migration entered swo_event_phase() */
  SWO_EVENT_PROGRESS = 2,         /* its numbers changed; only the newest is kept */
  SWO_EVENT_HAND_OVER_WANTED = 3, /* answer with swo_migration_handed_over() */
  SWO_EVENT_WARNING = 4,          /* swo_event_text() for a person */
  SWO_EVENT_LOG = 5,              /* swo_event_text(): what happened, for a log */
  SWO_EVENT_FINISHED = 6,         /* the migration has ended; see swo_migration_end() */
  SWO_EVENT_QMP_READY = 32,       /* a QMP client is connected and negotiated */
  SWO_EVENT_QMP_REPLY = 33,       /* swo_event_command_id(), swo_event_code(), swo_event_json() */
  SWO_EVENT_QMP_EVENT = 34,       /* swo_event_name(), swo_event_json(), swo_event_time_us() */
  SWO_EVENT_QMP_CLOSED = 35       /* the connection is gone; swo_event_code(), swo_event_text() */
} swo_event_kind;

/* One of swo_event_kind. */
int swo_event_kind_of(const swo_event *event);
/* The migration or client concerned, or NULL. Borrowed; still yours if you made it. */
swo_migration *swo_event_migration(const swo_event *event);
swo_qmp *swo_event_qmp(const swo_event *event);
/* The recovery concerned, or NULL. Borrowed. Its events are WARNING, LOG and FINISHED. */
swo_recovery *swo_event_recovery(const swo_event *event);
/* The new phase of a SWO_EVENT_PHASE; else SWO_PHASE_IDLE. */
int swo_event_phase(const swo_event *event);
/* Text for a person; "" where the kind has none. Valid until the event is freed. */
const char *swo_event_text(const swo_event *event);
/* The name of a QMP event, such as "STOP"; else "". */
const char *swo_event_name(const swo_event *event);
/* The data of a QMP event, or the return value or error object of a reply, as JSON text; else "". */
const char *swo_event_json(const swo_event *event);
/* 0 or the SWO_E_* code of a reply or of a closed connection. */
int swo_event_code(const swo_event *event);
/* The id that swo_qmp_submit() gave, for a reply; else 0. */
uint64_t swo_event_command_id(const swo_event *event);
/* QEMU's own timestamp of a QMP event, microseconds since 1970; 0 where there is none. */
int64_t swo_event_time_us(const swo_event *event);
/* Frees an event and the texts that it lent. */
void swo_event_free(swo_event *event);

/* ---- Migration: making one --------------------------------------------------------------------- */

/* Makes a migration that belongs to the loop. Free with swo_migration_free(). */
int swo_migration_new(swo_loop *loop, swo_migration **migration_out);

/* Frees the handle, and closes its connections, whatever its phase: QEMU goes on by itself and nobody
 * grants. Use swo_migration_cancel() and wait for the end to stop a migration properly. */
void swo_migration_free(swo_migration *migration);

/* The setters answer SWO_E_STATE after swo_migration_start() and SWO_E_INVALID for a bad value. */

/* A name for texts, such as "vm 100"; at most 128 bytes. Default: "guest". */
int swo_migration_set_name(swo_migration *migration, const char *name);

/* The address of a side's QMP monitor: "unix:/path", "/path", "tcp:host:port" (numeric host or name;
 * names are resolved in start), or "fd:N" for an inherited descriptor, which is duplicated. Required for
 * both sides.
 *
 * The target's may be "ssh://[user@]host[:port]/path", a unix socket of another host, reached as
 * swo_loop_set_ssh() says. Then "unix:" in swo_migration_set_uri() and in the address of
 * swo_migration_set_nbd() name sockets of that host too: the source gets sockets of a private directory
 * (0700, so its QEMU runs as this user or as root) that lead there. All of it is open before the source
 * is touched. swo_migration_start() then blocks while ssh's configuration is read and the host's name is
 * looked up. */
int swo_migration_set_monitor(swo_migration *migration, int side, const char *address);

/* One of swo_monitor_sharing, for a side's monitor. SHARED suits a source whose only monitor is used by
 * other programs. Others are let in within 100 ms (and 250 ms after the last one left) while memory travels or mirrors are brought in sync, and
 * QEMU is slowed down for so long that it cannot reach the switchover meanwhile. With less than about 2 s
 * left to send, in the switchover and after it the monitor is kept; a warning tells of somebody who then
 * has waited for nearly 3 s. If others keep the monitor until the guest could be left standing, the
 * migration fails with SWO_FAILURE_MONITOR_BUSY and the guest stays on the source. Where the kernel does
 * not tell who waits (tcp, or no sock_diag) the monitor is let go of once a second. Errors: SWO_E_INVALID
 * for SHARED with the target, and in swo_migration_start() with a source monitor "fd:N". */
int swo_migration_set_monitor_sharing(swo_migration *migration, int side, int sharing);

/* A second monitor of the source's QEMU, used out of band only: it breaks an NBD connection that stalls
 * at the switchover, while the guest stands and QEMU answers nobody else. Optional; advisable with local
 * disks. */
int swo_migration_set_oob_monitor(swo_migration *migration, const char *address);

/* The uri that the source migrates to, as QEMU writes it: "unix:/path", "tcp:host:port", "fd:name".
 * Required. Plain tcp to an address that is not loopback warns: the guest's memory travels readable. */
int swo_migration_set_uri(swo_migration *migration, const char *uri);

/* The uri for `migrate-incoming`, for a target that was started with `-incoming defer`. Optional;
 * without it such a target gets the uri of swo_migration_set_uri(). */
int swo_migration_set_incoming_uri(swo_migration *migration, const char *uri);

/* One of swo_hand_over. */
int swo_migration_set_hand_over(swo_migration *migration, int mode);

/* One of swo_source_end. Required, except with SWO_HAND_OVER_EXTERNAL, where it is always KEEP. */
int swo_migration_set_source_end(swo_migration *migration, int source_end);

/* QEMU's `downtime-limit` at the start, milliseconds, 1 to 2000000; and the highest value that the ramp
 * may reach (0: no ramp). Default: QEMU's own limit, doubled after repeated passes without progress, up
 * to 2000000. */
int swo_migration_set_downtime_limit(swo_migration *migration, uint32_t limit_ms, uint32_t highest_ms);

/* QEMU's `max-bandwidth`, bytes a second; 0 means no limit. Default: no limit. */
int swo_migration_set_bandwidth(swo_migration *migration, uint64_t bytes_per_second);

/* A migration capability for both sides, such as "xbzrle"; on is 0 or 1. Those that the switchover
 * itself depends on (events, return-path, pause-before-switchover, postcopy-ram, late-block-activate)
 * are refused with SWO_E_INVALID. At most 32. */
int swo_migration_set_capability(swo_migration *migration, const char *name, int on);

/* A migration parameter for both sides, as JSON, such as ("multifd-channels", "4"). At most 32. */
int swo_migration_set_parameter(swo_migration *migration, const char *name, const char *json);

/* ---- Migration: local disks -------------------------------------------------------------------- */

/* The source's way to the target's NBD server: "unix:/path" or "tcp:host:port". Required with disks that
 * the library mirrors. listen_address, in the same form, is where the target is told to listen; NULL:
 * its server runs already. */
int swo_migration_set_nbd(
    swo_migration *migration, const char *address, const char *listen_address);

/* Adds a disk that the library mirrors: device is the source's node or drive name, export_name the
 * target's NBD export, target_node the target's node behind it where the library is to add the export
 * (NULL: it is there), bandwidth in bytes a second (0: no limit). At most 64 disks. */
int swo_migration_add_disk(
    swo_migration *migration, const char *device, const char *export_name, const char *target_node,
    uint64_t bandwidth);

/* Adds a disk whose mirror the host program has started as block job job_id. write_blocking 1 says that
 * it was started with copy-mode write-blocking. node is the NBD client's node on the source, for yank and
 * removal (NULL: not known). The mirror is ended and dismissed after a success and left alone otherwise,
 * unless the source has to be resumed after `completed`. */
int swo_migration_take_over_mirror(
    swo_migration *migration, const char *device, const char *job_id, int write_blocking,
    const char *node);

/* How long the mirrors may take to get in sync before swo_migration_set_sync_policy() applies,
 * milliseconds; 0 (default): no limit. */
int swo_migration_set_sync_deadline(swo_migration *migration, uint64_t milliseconds);

/* What to do when mirrors are not in sync at their deadline (default: SWO_SYNC_FAIL). The mirrors of a guest
 * that writes faster than they copy never are, unless it is throttled; before QEMU 8.2 it is from the start. */
int swo_migration_set_sync_policy(swo_migration *migration, int policy);

/* How long the guest may stand at STOP before stalled NBD connections are broken out of band, and how
 * long mirrors may take to end in pre-switchover before the switchover is called off, milliseconds, 50 to
 * 600000. Defaults: 2000 and 5000. */
int swo_migration_set_storage_limits(
    swo_migration *migration, uint32_t yank_ms, uint32_t drain_ms);

/* Whether the order with one round trip less may be used, where QEMU's release is known to bear it
 * (default 1). With 0 the mirrors are ended in pre-switchover. */
int swo_migration_set_fast_order(swo_migration *migration, int allowed);

/* The number of disks, and one disk's progress (index from 0): name, bytes copied, bytes in all. */
int swo_migration_disk_count(const swo_migration *migration);
int swo_migration_disk(
    const swo_migration *migration, int index, const char **device_out, uint64_t *done_out,
    uint64_t *total_out);

/* A journal for swo_recovery_set_journal(), at this absolute path: the intent is durable there before anything is
 * changed, and the outcome after the end. Its folder must exist. The start answers SWO_E_BUSY where a live
 * process works with it, SWO_E_STATE where an earlier migration there is not settled, and SWO_E_PROTOCOL
 * where the file is no journal. Without a journal recovery has only what both QEMUs say. Optional. */
int swo_migration_set_journal(swo_migration *migration, const char *path);

/* The time from `migrate` to the switchover after which the migration is cancelled, milliseconds;
 * 0 (default): no limit. */
int swo_migration_set_transfer_deadline(swo_migration *migration, uint64_t milliseconds);

/* How long to wait for a monitor to greet at the start, and to come back after it was lost,
 * milliseconds, 100 to 600000. Defaults: 5000 and 30000. */
int swo_migration_set_monitor_deadlines(
    swo_migration *migration, uint32_t connect_ms, uint32_t reconnect_ms);

/* ---- Migration: running it --------------------------------------------------------------------- */

/* Starts. Everything further happens in swo_loop_dispatch(). Errors: SWO_E_INVALID names the setter
 * that is missing; SWO_E_STATE when it was started before. */
int swo_migration_start(swo_migration *migration);

/* Like start, but ends before anything is changed: COMPLETED means that the preflight found nothing
 * against this migration. */
int swo_migration_check(swo_migration *migration);

/* Asks for an end with the guest on the source. Returns 0 when that was sent, SWO_E_TOO_LATE past the
 * point of no return (the migration then goes on). The end says what became of it: a cancel that QEMU
 * overtakes ends COMPLETED. */
int swo_migration_cancel(swo_migration *migration);

/* Answers SWO_EVENT_HAND_OVER_WANTED, with one of swo_hand_over_result. */
int swo_migration_handed_over(swo_migration *migration, int result);

/* Changes QEMU's `downtime-limit`, milliseconds, 1 to 2000000, while RAM travels (SWO_PHASE_TRANSFERRING,
 * else SWO_E_STATE): for a host program with a ramp of its own, which sets the library's to 0 in
 * swo_migration_set_downtime_limit(). A refusal of QEMU is a SWO_EVENT_WARNING. */
int swo_migration_change_downtime_limit(swo_migration *migration, uint32_t limit_ms);

/* Says that ownership in the cluster is back with the source after a hand-over that was done, so that
 * the source may be resumed when the target is proven unable to run. */
int swo_migration_handed_back(swo_migration *migration);

/* The host program's word that this side is fenced: it cannot run now, nor later by itself. */
int swo_migration_fenced(swo_migration *migration, int side);

/* The reference loop: dispatches until the migration ends (returns 1), a hand-over is wanted (2),
 * timeout_ms has passed (0; negative: no limit), or a signal arrived (SWO_E_INTERRUPTED). Events of this
 * and other migrations stay in the queue; the loop's other work goes on. */
int swo_migration_run(swo_migration *migration, int timeout_ms);

/* ---- Migration: what is known ------------------------------------------------------------------ */

/* Where it stands now: one of swo_phase, swo_end, swo_owner and swo_guest. */
int swo_migration_phase(const swo_migration *migration); /* swo_phase */
int swo_migration_end(const swo_migration *migration);   /* swo_end */
int swo_migration_owner(const swo_migration *migration); /* swo_owner */
int swo_migration_guest(const swo_migration *migration); /* swo_guest */

typedef SWO_ENUM(swo_number) {
  SWO_NUMBER_RAM_TOTAL_BYTES = 1,
  SWO_NUMBER_RAM_TRANSFERRED_BYTES = 2,
  SWO_NUMBER_RAM_REMAINING_BYTES = 3,
  SWO_NUMBER_RATE_BYTES_PER_SECOND = 4,
  SWO_NUMBER_PASS = 5,                 /* QEMU's dirty-sync-count */
  SWO_NUMBER_DIRTY_BYTES_PER_SECOND = 6,
  SWO_NUMBER_DOWNTIME_LIMIT_MS = 7,    /* in force now */
  SWO_NUMBER_PREDICTED_BLACKOUT_US = 8,
  SWO_NUMBER_QEMU_DOWNTIME_MS = 9,     /* QEMU's own figure, after the end */
  SWO_NUMBER_BLACKOUT_US = 10,         /* the source's STOP to the target's RESUME */
  SWO_NUMBER_BLACKOUT_ERROR_US = 11,   /* how far that can be off: the clocks of two hosts */
  SWO_NUMBER_TOTAL_TIME_MS = 12        /* from `migrate` to the source's `completed`, QEMU's figure */
} swo_number;

/* One figure. Returns 0, or SWO_E_STATE while it is not known (value_out is then left alone). */
int swo_migration_number(const swo_migration *migration, int number, uint64_t *value_out);

/* The source's last answer to `query-migrate`, whole and in QEMU's own words, as JSON; "" before the
 * first. It is asked each second while RAM travels, and once at the end. */
const char *swo_migration_report(const swo_migration *migration);

/* The ledger of the blackout: its parts in order of time. The number of parts, 0 before the end. */
int swo_migration_ledger_count(const swo_migration *migration);

/* Part index (from 0): its name, its start after the source's STOP and its length, microseconds. Any of
 * the out-parameters may be NULL. */
int swo_migration_ledger_part(
    const swo_migration *migration, int index, const char **name_out, int64_t *start_us_out,
    int64_t *length_us_out);

/* ---- Migration: what went wrong ---------------------------------------------------------------- */

/* Why a migration did not complete. Stable numbers; swo_failure_name() gives "monitor-busy" and so on. */
typedef SWO_ENUM(swo_failure) {
  SWO_FAILURE_NONE = 0,
  SWO_FAILURE_MONITOR_UNREACHABLE = 1, /* no connection, or no greeting */
  SWO_FAILURE_MONITOR_BUSY = 2,        /* another client holds the monitor */
  SWO_FAILURE_MONITOR_LOST = 3,        /* it did not come back in time */
  SWO_FAILURE_PROTOCOL = 4,            /* not QMP, or its rules broken */
  SWO_FAILURE_SOURCE_UNFIT = 5,        /* preflight: run state, blocker, capability, other migration */
  SWO_FAILURE_TARGET_UNFIT = 6,        /* preflight: not waiting for a migration, capability */
  SWO_FAILURE_MISMATCH = 7,            /* preflight: machine type or memory size differ */
  SWO_FAILURE_COMMAND = 8,             /* QEMU refused a command; see the error's command and class */
  SWO_FAILURE_MIGRATION = 9,           /* QEMU's migration failed; the text has its own words */
  SWO_FAILURE_TARGET_GONE = 10,        /* the target's QEMU ended */
  SWO_FAILURE_SOURCE_GONE = 11,        /* the source's QEMU ended */
  SWO_FAILURE_CANCELLED_ELSEWHERE = 12,/* somebody else cancelled it */
  SWO_FAILURE_DEADLINE = 13,           /* the transfer deadline passed */
  SWO_FAILURE_HAND_OVER = 14,          /* the host program said FAILED or UNKNOWN */
  SWO_FAILURE_NOT_RESUMED = 15,        /* the target loaded, and does not run */
  SWO_FAILURE_GUEST_OFF = 16,          /* the guest powered off or panicked on the way */
  SWO_FAILURE_OUTCOME_UNKNOWN = 17,    /* a reply was lost and could not be settled */
  SWO_FAILURE_INTERNAL = 18,
  SWO_FAILURE_STORAGE = 19,            /* a mirror, an export or an NBD server; see the text */
  SWO_FAILURE_JOURNAL = 20             /* the journal could not be written; nothing was changed */
} swo_failure;

/* A constant English name for one of swo_failure, such as "monitor-busy"; never NULL. */
const char *swo_failure_name(int failure);

int swo_migration_failure(const swo_migration *migration);      /* swo_failure */
int swo_migration_failure_side(const swo_migration *migration); /* swo_side */
/* The command that failed, such as "cont", or "". */
const char *swo_migration_failure_command(const swo_migration *migration);
/* QEMU's error class, such as "GenericError", or "". */
const char *swo_migration_failure_class(const swo_migration *migration);
/* What happened, on which side: one sentence. "" when nothing went wrong. */
const char *swo_migration_failure_text(const swo_migration *migration);
/* The safe next step: one sentence. "" when there is none to take. */
const char *swo_migration_next_step(const swo_migration *migration);
/* All of it in one line, for a log; also after a success. */
const char *swo_migration_summary(const swo_migration *migration);

/* ---- Recovery ---------------------------------------------------------------------------------- */

/* What recovery does about a pair; swo_recovery_action_name() gives the words. */
typedef SWO_ENUM(swo_recovery_action) {
  SWO_RECOVERY_NOTHING = 1,          /* nothing is left to do about the guest */
  SWO_RECOVERY_WAIT = 2,             /* QEMU has not decided */
  SWO_RECOVERY_CANCEL_MIGRATION = 3,
  SWO_RECOVERY_RESUME_TARGET = 4,
  SWO_RECOVERY_END_TARGET = 5,       /* end the target, then resume the source */
  SWO_RECOVERY_RESUME_SOURCE = 6,
  SWO_RECOVERY_QUIT_SOURCE = 7,
  SWO_RECOVERY_ASK = 8               /* nothing is safe: a person has to establish something */
} swo_recovery_action;

/* A constant English name for one of swo_recovery_action, such as "resume the target"; never NULL. */
const char *swo_recovery_action_name(int action);

/* Makes a recovery that belongs to the loop: it looks at both QEMUs, decides from one table, acts where
 * that is proven safe, and otherwise names what has to be established. Free with swo_recovery_free(). */
int swo_recovery_new(swo_loop *loop, swo_recovery **recovery_out);

/* Frees the handle and closes its connections, whatever it was doing; running it again goes on. */
void swo_recovery_free(swo_recovery *recovery);

/* The setters answer SWO_E_STATE after swo_recovery_start() and SWO_E_INVALID for a bad value. All of
 * them are optional, but without a journal at least one monitor is needed. */

/* The journal of the migration, at this absolute path. It is read in swo_recovery_start(), stays locked
 * until the end, and gets the outcome. */
int swo_recovery_set_journal(swo_recovery *recovery, const char *path);

/* The address of a side's monitor, as for a migration; it goes before the journal's. "" leaves that side
 * unasked. */
int swo_recovery_set_monitor(swo_recovery *recovery, int side, const char *address);

/* A second monitor of the source, used out of band where its mirrors hang on a dead connection. */
int swo_recovery_set_oob_monitor(swo_recovery *recovery, const char *address);

/* The host program's word that this side is fenced: it cannot run now, nor later by itself. */
int swo_recovery_set_fenced(swo_recovery *recovery, int side);

/* The host program's word on where ownership in its cluster is; SWO_SIDE_NONE: there is no cluster. */
int swo_recovery_set_ownership(swo_recovery *recovery, int side);

/* The host program's word on whether the guest is to run (1) or stood before the migration (0). */
int swo_recovery_set_guest_ran(swo_recovery *recovery, int ran);

/* The host program's word that the guest never ran on the target. */
int swo_recovery_set_target_never_ran(swo_recovery *recovery);

/* With 1 it looks and decides, and changes nothing. */
int swo_recovery_set_dry_run(swo_recovery *recovery, int on);

/* How long QEMU may take to decide by itself before a person is asked, milliseconds, 0 to 3600000.
 * Default: 60000. */
int swo_recovery_set_settle_limit(swo_recovery *recovery, uint32_t milliseconds);

/* Starts. Errors: SWO_E_BUSY when a live process works with the journal, SWO_E_PROTOCOL when it is none
 * or not a whole one, SWO_E_SYSTEM when it cannot be opened; SWO_E_INVALID when there is nothing to look
 * at. */
int swo_recovery_start(swo_recovery *recovery);

/* Dispatches until the recovery ends (returns 1), timeout_ms has passed (0; negative: no limit), or a
 * signal arrived (SWO_E_INTERRUPTED). */
int swo_recovery_run(swo_recovery *recovery, int timeout_ms);

/* What it came to; before its end the decision is 0, the owner and the guest are unknown and
 * the texts "". */
int swo_recovery_decision(const swo_recovery *recovery); /* swo_recovery_action */
int swo_recovery_owner(const swo_recovery *recovery);        /* swo_owner */
int swo_recovery_guest(const swo_recovery *recovery);        /* swo_guest */
/* The name of the row of the table that decided. */
const char *swo_recovery_rule(const swo_recovery *recovery);
/* What the situation means, or why an action failed: one sentence. */
const char *swo_recovery_text(const swo_recovery *recovery);
/* What a person has to do and to say then: one sentence. "" when nothing is left. */
const char *swo_recovery_next_step(const swo_recovery *recovery);
/* What to say: each an option of the command, such as "--fenced target"; one of them is enough unless the
 * next step says otherwise. NULL where index (from 0) is too large. */
const char *swo_recovery_word(const swo_recovery *recovery, int index);
/* What was found, and what was done, one sentence each; NULL where index (from 0) is too large. */
const char *swo_recovery_finding(const swo_recovery *recovery, int index);
const char *swo_recovery_deed(const swo_recovery *recovery, int index);

/* The table that decides: its rows in order, of which the first that matches counts. */
int swo_recovery_table_count(void);

typedef SWO_ENUM(swo_recovery_column) {
  SWO_RECOVERY_COLUMN_RULE = 1,
  SWO_RECOVERY_COLUMN_SOURCE = 2,      /* what the source's QEMU does; "any", or names with bars */
  SWO_RECOVERY_COLUMN_TARGET = 3,
  SWO_RECOVERY_COLUMN_CLUSTER = 4,     /* where the cluster believes the guest to be */
  SWO_RECOVERY_COLUMN_GUEST_RUN = 5,   /* whether the guest ran before */
  SWO_RECOVERY_COLUMN_TARGET_PAST = 6, /* whether it may have run on the target */
  SWO_RECOVERY_COLUMN_ACTION = 7,
  SWO_RECOVERY_COLUMN_OWNER = 8,       /* before the action */
  SWO_RECOVERY_COLUMN_GUEST = 9,
  SWO_RECOVERY_COLUMN_MEANING = 10,
  SWO_RECOVERY_COLUMN_TO_DO = 11,
  SWO_RECOVERY_COLUMN_WORDS = 12
} swo_recovery_column;

/* Writes one cell of row index (from 0) as text with a closing zero, cut where size is too small. Returns
 * the length of the whole text in bytes. */
int swo_recovery_table_cell(int index, int column, char *buffer, size_t size);

/* ---- Journals ---------------------------------------------------------------------------------- */

/* Reads a journal and lets go of it. SWO_E_BUSY: a live process works with it. SWO_E_PROTOCOL: it is no
 * journal, not a whole one, or of a newer version; swo_last_error() says which. SWO_E_SYSTEM: it cannot be
 * opened, or is not a private file of this user. */
int swo_journal_read(const char *path, swo_journal **journal_out);
void swo_journal_free(swo_journal *journal);

/* The migration's name. */
const char *swo_journal_name(const swo_journal *journal);
/* The address of a side's monitor. */
const char *swo_journal_monitor(const swo_journal *journal, int side);
/* The side's process on this machine, or 0 where the journal names none. */
int swo_journal_process(const swo_journal *journal, int side);
/* How the migration ended (swo_end): SWO_END_NONE when nobody wrote that down. */
int swo_journal_end(const swo_journal *journal);
/* Who owned the guest then (swo_owner), SWO_OWNER_UNKNOWN before the end. */
int swo_journal_owner(const swo_journal *journal);
int swo_journal_guest(const swo_journal *journal); /* swo_guest */
/* 1 when nothing is left to recover. */
int swo_journal_is_settled(const swo_journal *journal);
const char *swo_journal_text(const swo_journal *journal);
const char *swo_journal_next_step(const swo_journal *journal);

/* ---- QMP client -------------------------------------------------------------------------------- */

/* Starts to connect; SWO_EVENT_QMP_READY or _CLOSED follows within timeout_ms (1 to 600000). The address
 * is as in swo_migration_set_monitor(). A monitor that another client holds closes with SWO_E_BUSY.
 * oob 1 asks for out-of-band execution where QEMU offers it. */
int swo_qmp_open(swo_loop *loop, const char *address, int oob, int timeout_ms, swo_qmp **qmp_out);

/* Connects and waits for the result: 0, SWO_E_BUSY, SWO_E_CONNECT, SWO_E_PROTOCOL, SWO_E_TIMEOUT or
 * SWO_E_INTERRUPTED; *qmp_out is NULL after an error. */
int swo_qmp_connect(swo_loop *loop, const char *address, int oob, int timeout_ms, swo_qmp **qmp_out);

/* Frees a client and closes its connection. What became of commands in flight is unknown. */
void swo_qmp_free(swo_qmp *qmp);

/* Sends a command; SWO_EVENT_QMP_REPLY brings the answer under *id_out. arguments_json is a JSON object
 * or NULL. At most 256 commands wait at once (SWO_E_LIMIT). oob 1 sends it out of band. */
int swo_qmp_submit(
    swo_qmp *qmp, const char *command, const char *arguments_json, int oob, int timeout_ms,
    uint64_t *id_out);

/* Sends a command and waits for its answer. 0: *reply_out is the return value as JSON. SWO_E_QMP: it is
 * QEMU's error object, and swo_last_error() has its text. The string belongs to the client until its
 * next call. SWO_E_TIMEOUT, _LOST and _INTERRUPTED: the outcome is unknown. Events that arrive meanwhile
 * wait in the loop's queue. */
int swo_qmp_execute(
    swo_qmp *qmp, const char *command, const char *arguments_json, int timeout_ms,
    const char **reply_out);

/* Passes a descriptor to QEMU under a name (`getfd`), for later use as "fd:NAME". It stays yours. Waits
 * as swo_qmp_execute() does. */
int swo_qmp_pass_fd(swo_qmp *qmp, const char *name, int fd, int timeout_ms);

/* QEMU's version as greeted, major << 16 | minor << 8 | micro; 0 before SWO_EVENT_QMP_READY. */
uint32_t swo_qmp_version(const swo_qmp *qmp);

#ifdef __cplusplus
}
#endif

#endif /* SWITCHOVER_H */
