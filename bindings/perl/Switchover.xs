/* The glue between Perl and libswitchover: one XSUB a function of the C interface, with the same
 * name but for its prefix, in the package QEMU::Switchover::C. Everything else is Perl.
 *
 * No Perl code is ever called from the library. A call that waits does so in slices of 100 ms, and
 * signal handlers run in between; they may die, as no frame of the library is on the stack then. */
#define PERL_NO_GET_CONTEXT
#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <switchover.h>

#define SLICE_MS 100

typedef const char *in_text;          /* UTF-8 without NUL */
typedef const char *in_optional_text; /* the same; undef is NULL */
typedef const char *constant_text;    /* of the library itself */
typedef const char *foreign_text;     /* may have words of a QEMU: tainted */
typedef IV in_milliseconds;           /* undef is -1, without limit */

static const struct {
  const char *type;
  const char *package;
} handle_packages[] = {
  {"swo_loopPtr", "QEMU::Switchover::C::Loop"},
  {"swo_migrationPtr", "QEMU::Switchover::C::Migration"},
  {"swo_qmpPtr", "QEMU::Switchover::C::QMP"},
};

/* The number behind a handle of this type; croaks for anything else. */
static SV *handle_of(pTHX_ SV *argument, const char *type) {
  for (size_t i = 0; i < sizeof(handle_packages) / sizeof(*handle_packages); i++) {
    if (strcmp(handle_packages[i].type, type) != 0) continue;
    if (SvROK(argument) && sv_derived_from(argument, handle_packages[i].package))
      return SvRV(argument);
    croak("this is no %s", handle_packages[i].package);
  }
  croak("no handle has the type %s", type);
}

static void *pointer_of(pTHX_ SV *handle) {
  void *pointer = INT2PTR(void *, SvIV(handle));
  if (!pointer) croak("the handle is freed already");
  return pointer;
}

static SV *new_handle(pTHX_ void *pointer, const char *package) {
  SV *reference = newSV(0);
  sv_setref_pv(reference, package, pointer);
  return reference;
}

/* Takes the pointer out of a handle that is being destroyed. */
static void *taken_pointer(pTHX_ SV *argument) {
  SV *handle = SvRV(argument);
  void *pointer = INT2PTR(void *, SvIV(handle));
  sv_setiv(handle, 0);
  return pointer;
}

static const char *text_of(pTHX_ SV *argument, const char *name) {
  STRLEN length;
  if (!SvOK(argument)) croak("%s is undefined", name);
  const char *text = SvPVutf8(argument, length);
  if (memchr(text, '\0', length)) croak("%s has a NUL character in it", name);
  return text;
}

static UV whole_number_of(pTHX_ SV *argument, const char *name, UV highest) {
  int kind = SvPOK(argument) ? (int)grok_number(SvPVX(argument), SvCUR(argument), NULL) : 0;
  if (SvPOK(argument) ? !(kind & IS_NUMBER_IN_UV) : !SvNIOK(argument))
    croak("%s is not a number", name);
  NV number = SvNV(argument);
  if (number < 0 || (!SvIOK(argument) && number != Perl_floor(number)))
    croak("%s is not a whole number from 0 on", name);
  UV value = SvUV(argument);
  if (number > (NV)highest || value > highest) croak("%s is too large", name);
  return value;
}

static SV *constant_sv(pTHX_ const char *text) {
  SV *value = sv_2mortal(newSVpv(text, 0));
  sv_utf8_decode(value);
  return value;
}

static SV *foreign_sv(pTHX_ const char *text) {
  SV *value = constant_sv(aTHX_ text);
  SvTAINTED_on(value);
  return value;
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int dispatch_slice(void *loop, int timeout_ms) {
  return swo_loop_dispatch(loop, timeout_ms);
}

static int run_slice(void *migration, int timeout_ms) {
  return swo_migration_run(migration, timeout_ms);
}

/* Calls a function that waits until it answers something else than 0 and SWO_E_INTERRUPTED, or the
 * time has passed. A signal handler may die, and may free the handle. */
static int wait_in_slices(pTHX_ SV *handle, int (*slice)(void *, int), IV timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  sv_2mortal(SvREFCNT_inc(handle));
  while (1) {
    int64_t rest = timeout_ms < 0 ? SLICE_MS : deadline - now_ms();
    if (rest < 0) rest = 0;
    int answer = slice(pointer_of(aTHX_ handle), rest < SLICE_MS ? (int)rest : SLICE_MS);
    if (answer != 0 && answer != SWO_E_INTERRUPTED) return answer;
    PERL_ASYNC_CHECK();
    if (timeout_ms >= 0 && now_ms() >= deadline) return 0;
  }
}

static void store(pTHX_ HV *hash, const char *key, SV *value) {
  (void)hv_store(hash, key, (I32)strlen(key), value, 0);
}

static SV *event_as_hash(pTHX_ const swo_event *event) {
  HV *hash = newHV();
  store(aTHX_ hash, "kind", newSViv(swo_event_kind_of(event)));
  store(aTHX_ hash, "migration", newSVuv(PTR2UV(swo_event_migration(event))));
  store(aTHX_ hash, "qmp", newSVuv(PTR2UV(swo_event_qmp(event))));
  store(aTHX_ hash, "phase", newSViv(swo_event_phase(event)));
  store(aTHX_ hash, "text", SvREFCNT_inc(foreign_sv(aTHX_ swo_event_text(event))));
  store(aTHX_ hash, "name", SvREFCNT_inc(foreign_sv(aTHX_ swo_event_name(event))));
  store(aTHX_ hash, "json", SvREFCNT_inc(foreign_sv(aTHX_ swo_event_json(event))));
  store(aTHX_ hash, "code", newSViv(swo_event_code(event)));
  store(aTHX_ hash, "id", newSVuv((UV)swo_event_command_id(event)));
  store(aTHX_ hash, "time_us", newSViv((IV)swo_event_time_us(event)));
  return newRV_noinc((SV *)hash);
}

#define CONSTANT(name) {#name, SWO_##name}

static const struct {
  const char *name;
  int value;
} constants[] = {
  CONSTANT(OK), CONSTANT(E_INVALID), CONSTANT(E_STATE), CONSTANT(E_SYSTEM),
  CONSTANT(E_INTERRUPTED), CONSTANT(E_TIMEOUT), CONSTANT(E_TOO_LATE), CONSTANT(E_FORKED),
  CONSTANT(E_LIMIT), CONSTANT(E_BUSY), CONSTANT(E_CONNECT), CONSTANT(E_PROTOCOL), CONSTANT(E_QMP),
  CONSTANT(E_LOST), CONSTANT(E_CLOSED), CONSTANT(E_INTERNAL),
  CONSTANT(SIDE_NONE), CONSTANT(SIDE_SOURCE), CONSTANT(SIDE_TARGET),
  CONSTANT(OWNER_SOURCE), CONSTANT(OWNER_TARGET), CONSTANT(OWNER_NOBODY), CONSTANT(OWNER_UNKNOWN),
  CONSTANT(GUEST_UNKNOWN), CONSTANT(GUEST_RUNNING), CONSTANT(GUEST_PAUSED), CONSTANT(GUEST_OFF),
  CONSTANT(PHASE_IDLE), CONSTANT(PHASE_CONNECTING), CONSTANT(PHASE_PREFLIGHT),
  CONSTANT(PHASE_PREPARING), CONSTANT(PHASE_MIRRORING), CONSTANT(PHASE_TRANSFERRING),
  CONSTANT(PHASE_SWITCHING_OVER), CONSTANT(PHASE_HANDING_OVER), CONSTANT(PHASE_ACTIVATING),
  CONSTANT(PHASE_FINISHING), CONSTANT(PHASE_UNDOING), CONSTANT(PHASE_ENDED),
  CONSTANT(END_NONE), CONSTANT(END_COMPLETED), CONSTANT(END_CANCELLED), CONSTANT(END_FAILED),
  CONSTANT(END_UNKNOWN),
  CONSTANT(HAND_OVER_BEFORE_RESUME), CONSTANT(HAND_OVER_AFTER_RESUME), CONSTANT(HAND_OVER_NONE),
  CONSTANT(HAND_OVER_EXTERNAL), CONSTANT(HAND_OVER_DONE), CONSTANT(HAND_OVER_FAILED),
  CONSTANT(HAND_OVER_UNKNOWN), CONSTANT(SOURCE_QUIT), CONSTANT(SOURCE_KEEP),
  CONSTANT(SYNC_FAIL), CONSTANT(SYNC_WAIT), CONSTANT(SYNC_THROTTLE),
  CONSTANT(MONITOR_EXCLUSIVE), CONSTANT(MONITOR_SHARED),
  CONSTANT(SSH_AUTO), CONSTANT(SSH_LIBSSH2), CONSTANT(SSH_SYSTEM),
  CONSTANT(EVENT_PHASE), CONSTANT(EVENT_PROGRESS), CONSTANT(EVENT_HAND_OVER_WANTED),
  CONSTANT(EVENT_WARNING), CONSTANT(EVENT_LOG), CONSTANT(EVENT_FINISHED),
  CONSTANT(EVENT_QMP_READY), CONSTANT(EVENT_QMP_REPLY), CONSTANT(EVENT_QMP_EVENT),
  CONSTANT(EVENT_QMP_CLOSED),
  CONSTANT(NUMBER_RAM_TOTAL_BYTES), CONSTANT(NUMBER_RAM_TRANSFERRED_BYTES),
  CONSTANT(NUMBER_RAM_REMAINING_BYTES), CONSTANT(NUMBER_RATE_BYTES_PER_SECOND),
  CONSTANT(NUMBER_PASS), CONSTANT(NUMBER_DIRTY_BYTES_PER_SECOND),
  CONSTANT(NUMBER_DOWNTIME_LIMIT_MS), CONSTANT(NUMBER_PREDICTED_BLACKOUT_US),
  CONSTANT(NUMBER_QEMU_DOWNTIME_MS), CONSTANT(NUMBER_BLACKOUT_US),
  CONSTANT(NUMBER_BLACKOUT_ERROR_US), CONSTANT(NUMBER_TOTAL_TIME_MS),
  CONSTANT(FAILURE_NONE), CONSTANT(FAILURE_MONITOR_UNREACHABLE), CONSTANT(FAILURE_MONITOR_BUSY),
  CONSTANT(FAILURE_MONITOR_LOST), CONSTANT(FAILURE_PROTOCOL), CONSTANT(FAILURE_SOURCE_UNFIT),
  CONSTANT(FAILURE_TARGET_UNFIT), CONSTANT(FAILURE_MISMATCH), CONSTANT(FAILURE_COMMAND),
  CONSTANT(FAILURE_MIGRATION), CONSTANT(FAILURE_TARGET_GONE), CONSTANT(FAILURE_SOURCE_GONE),
  CONSTANT(FAILURE_CANCELLED_ELSEWHERE), CONSTANT(FAILURE_DEADLINE), CONSTANT(FAILURE_HAND_OVER),
  CONSTANT(FAILURE_NOT_RESUMED), CONSTANT(FAILURE_GUEST_OFF), CONSTANT(FAILURE_OUTCOME_UNKNOWN),
  CONSTANT(FAILURE_INTERNAL), CONSTANT(FAILURE_STORAGE), CONSTANT(FAILURE_JOURNAL),
};

MODULE = QEMU::Switchover  PACKAGE = QEMU::Switchover::C  PREFIX = swo_

PROTOTYPES: DISABLE

# The header's constants without their common prefix: { E_BUSY => -9, … }.
SV *
constants()
  CODE:
    HV *hash = newHV();
    for (size_t i = 0; i < sizeof(constants) / sizeof(*constants); i++)
      store(aTHX_ hash, constants[i].name, newSViv(constants[i].value));
    RETVAL = newRV_noinc((SV *)hash);
  OUTPUT:
    RETVAL

foreign_text
swo_last_error()

constant_text
swo_version_string()

# ---- Loop

# The calls that make something answer the handle, or the code of the failure.
SV *
loop_new()
  CODE:
    swo_loop *loop = NULL;
    int code = swo_loop_new(&loop);
    RETVAL = code < 0 ? newSViv(code) : new_handle(aTHX_ loop, "QEMU::Switchover::C::Loop");
  OUTPUT:
    RETVAL

int
swo_loop_fd(loop)
    swo_loop *loop

# The words of the command as an array, or undef for the library's own.
int
loop_set_ssh(loop, carrier, command, login_ms)
    swo_loop *loop
    int carrier
    SV *command
    uint32_t login_ms
  CODE:
    const char **words = NULL;
    if (SvOK(command)) {
      if (!SvROK(command) || SvTYPE(SvRV(command)) != SVt_PVAV) croak("command is no array");
      AV *array = (AV *)SvRV(command);
      SSize_t count = av_len(array) + 1;
      /* One word more than the library takes is enough for it to refuse them. */
      if (count > 256) count = 256;
      Newx(words, count + 1, const char *);
      SAVEFREEPV(words);
      for (SSize_t i = 0; i < count; i++) {
        SV **word = av_fetch(array, i, 0);
        words[i] = text_of(aTHX_ word ? *word : &PL_sv_undef, "a word of command");
      }
      words[count] = NULL;
    }
    RETVAL = swo_loop_set_ssh(loop, carrier, words, login_ms);
  OUTPUT:
    RETVAL

# Waits until an event waits, or for the time. The number of events, or a code.
int
loop_dispatch(loop, timeout_ms)
    SV *loop
    in_milliseconds timeout_ms
  CODE:
    RETVAL = wait_in_slices(aTHX_ handle_of(aTHX_ loop, "swo_loopPtr"), dispatch_slice, timeout_ms);
  OUTPUT:
    RETVAL

# The oldest event as a hash of raw values, undef, or a code.
SV *
loop_next_event(loop)
    swo_loop *loop
  CODE:
    swo_event *event = NULL;
    int answer = swo_loop_next_event(loop, &event);
    RETVAL = answer < 0 ? newSViv(answer) : answer == 0 ? newSV(0) : event_as_hash(aTHX_ event);
    swo_event_free(event);
  OUTPUT:
    RETVAL

# ---- Migration

SV *
migration_new(loop)
    swo_loop *loop
  CODE:
    swo_migration *migration = NULL;
    int code = swo_migration_new(loop, &migration);
    RETVAL = code < 0 ? newSViv(code)
                      : new_handle(aTHX_ migration, "QEMU::Switchover::C::Migration");
  OUTPUT:
    RETVAL

int
swo_migration_set_name(migration, name)
    swo_migration *migration
    in_text name

int
swo_migration_set_monitor(migration, side, address)
    swo_migration *migration
    int side
    in_text address

int
swo_migration_set_oob_monitor(migration, address)
    swo_migration *migration
    in_text address

int
swo_migration_set_uri(migration, uri)
    swo_migration *migration
    in_text uri

int
swo_migration_set_incoming_uri(migration, uri)
    swo_migration *migration
    in_text uri

int
swo_migration_set_hand_over(migration, mode)
    swo_migration *migration
    int mode

int
swo_migration_set_monitor_sharing(migration, side, sharing)
    swo_migration *migration
    int side
    int sharing

int
swo_migration_set_source_end(migration, source_end)
    swo_migration *migration
    int source_end

int
swo_migration_set_downtime_limit(migration, limit_ms, highest_ms)
    swo_migration *migration
    uint32_t limit_ms
    uint32_t highest_ms

int
swo_migration_set_bandwidth(migration, bytes_per_second)
    swo_migration *migration
    uint64_t bytes_per_second

int
swo_migration_set_capability(migration, name, on)
    swo_migration *migration
    in_text name
    int on

int
swo_migration_set_parameter(migration, name, json)
    swo_migration *migration
    in_text name
    in_text json

int
swo_migration_set_nbd(migration, address, listen_address)
    swo_migration *migration
    in_text address
    in_optional_text listen_address

int
swo_migration_add_disk(migration, device, export_name, target_node, bandwidth)
    swo_migration *migration
    in_text device
    in_text export_name
    in_optional_text target_node
    uint64_t bandwidth

int
swo_migration_take_over_mirror(migration, device, job_id, write_blocking, node)
    swo_migration *migration
    in_text device
    in_text job_id
    int write_blocking
    in_optional_text node

int
swo_migration_set_sync_deadline(migration, milliseconds)
    swo_migration *migration
    uint64_t milliseconds

int
swo_migration_set_sync_policy(migration, policy)
    swo_migration *migration
    int policy

int
swo_migration_set_storage_limits(migration, yank_ms, drain_ms)
    swo_migration *migration
    uint32_t yank_ms
    uint32_t drain_ms

int
swo_migration_set_fast_order(migration, allowed)
    swo_migration *migration
    int allowed

int
swo_migration_set_journal(migration, path)
    swo_migration *migration
    in_text path

int
swo_migration_set_transfer_deadline(migration, milliseconds)
    swo_migration *migration
    uint64_t milliseconds

int
swo_migration_set_monitor_deadlines(migration, connect_ms, reconnect_ms)
    swo_migration *migration
    uint32_t connect_ms
    uint32_t reconnect_ms

int
swo_migration_start(migration)
    swo_migration *migration

int
swo_migration_check(migration)
    swo_migration *migration

int
swo_migration_cancel(migration)
    swo_migration *migration

int
swo_migration_handed_over(migration, result)
    swo_migration *migration
    int result

int
swo_migration_change_downtime_limit(migration, limit_ms)
    swo_migration *migration
    uint32_t limit_ms

foreign_text
swo_migration_report(migration)
    swo_migration *migration

int
swo_migration_handed_back(migration)
    swo_migration *migration

int
swo_migration_fenced(migration, side)
    swo_migration *migration
    int side

# 1 at the end, 2 when a hand-over is wanted, 0 after the time, or a code.
int
migration_run(migration, timeout_ms)
    SV *migration
    in_milliseconds timeout_ms
  CODE:
    RETVAL =
        wait_in_slices(aTHX_ handle_of(aTHX_ migration, "swo_migrationPtr"), run_slice, timeout_ms);
  OUTPUT:
    RETVAL

int
swo_migration_phase(migration)
    swo_migration *migration

int
swo_migration_end(migration)
    swo_migration *migration

int
swo_migration_owner(migration)
    swo_migration *migration

int
swo_migration_guest(migration)
    swo_migration *migration

# The figure, or undef while it is not known.
SV *
migration_number(migration, number)
    swo_migration *migration
    int number
  CODE:
    uint64_t value = 0;
    RETVAL = swo_migration_number(migration, number, &value) < 0 ? newSV(0) : newSVuv((UV)value);
  OUTPUT:
    RETVAL

int
swo_migration_ledger_count(migration)
    swo_migration *migration

# Name, start and length of a part; nothing where there is none.
void
migration_ledger_part(migration, index)
    swo_migration *migration
    int index
  PPCODE:
    const char *name = NULL;
    int64_t start = 0, length = 0;
    if (swo_migration_ledger_part(migration, index, &name, &start, &length) < 0) XSRETURN_EMPTY;
    EXTEND(SP, 3);
    PUSHs(constant_sv(aTHX_ name));
    mPUSHi((IV)start);
    mPUSHi((IV)length);

int
swo_migration_disk_count(migration)
    swo_migration *migration

# Name, bytes copied and bytes in all of a disk; nothing where there is none.
void
migration_disk(migration, index)
    swo_migration *migration
    int index
  PPCODE:
    const char *device = NULL;
    uint64_t done = 0, total = 0;
    if (swo_migration_disk(migration, index, &device, &done, &total) < 0) XSRETURN_EMPTY;
    EXTEND(SP, 3);
    PUSHs(foreign_sv(aTHX_ device));
    mPUSHu((UV)done);
    mPUSHu((UV)total);

int
swo_migration_failure(migration)
    swo_migration *migration

int
swo_migration_failure_side(migration)
    swo_migration *migration

foreign_text
swo_migration_failure_command(migration)
    swo_migration *migration

foreign_text
swo_migration_failure_class(migration)
    swo_migration *migration

foreign_text
swo_migration_failure_text(migration)
    swo_migration *migration

foreign_text
swo_migration_next_step(migration)
    swo_migration *migration

foreign_text
swo_migration_summary(migration)
    swo_migration *migration

# ---- QMP client

SV *
qmp_open(loop, address, oob, timeout_ms)
    swo_loop *loop
    in_text address
    int oob
    int timeout_ms
  CODE:
    swo_qmp *qmp = NULL;
    int code = swo_qmp_open(loop, address, oob, timeout_ms, &qmp);
    RETVAL = code < 0 ? newSViv(code) : new_handle(aTHX_ qmp, "QEMU::Switchover::C::QMP");
  OUTPUT:
    RETVAL

# The command's id, which is greater than 0, or a code.
SV *
qmp_submit(qmp, command, arguments_json, oob, timeout_ms)
    swo_qmp *qmp
    in_text command
    in_optional_text arguments_json
    int oob
    int timeout_ms
  CODE:
    uint64_t id = 0;
    int code = swo_qmp_submit(qmp, command, arguments_json, oob, timeout_ms, &id);
    RETVAL = code < 0 ? newSViv(code) : newSVuv((UV)id);
  OUTPUT:
    RETVAL

int
swo_qmp_pass_fd(qmp, name, fd, timeout_ms)
    swo_qmp *qmp
    in_text name
    int fd
    int timeout_ms

uint32_t
swo_qmp_version(qmp)
    swo_qmp *qmp

# The address of what a handle stands for, as events name it.
UV
address(handle)
    SV *handle
  CODE:
    if (!SvROK(handle)) croak("this is no handle");
    RETVAL = PTR2UV(pointer_of(aTHX_ SvRV(handle)));
  OUTPUT:
    RETVAL

MODULE = QEMU::Switchover  PACKAGE = QEMU::Switchover::C::Loop

void
DESTROY(handle)
    SV *handle
  CODE:
    swo_loop_free(taken_pointer(aTHX_ handle));

MODULE = QEMU::Switchover  PACKAGE = QEMU::Switchover::C::Migration

void
DESTROY(handle)
    SV *handle
  CODE:
    swo_migration_free(taken_pointer(aTHX_ handle));

MODULE = QEMU::Switchover  PACKAGE = QEMU::Switchover::C::QMP

void
DESTROY(handle)
    SV *handle
  CODE:
    swo_qmp_free(taken_pointer(aTHX_ handle));
