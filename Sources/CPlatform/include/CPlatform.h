/* Small shims for what Swift cannot import from the C library: GNU extensions, macros, packed
   structures and thread-local storage.

   Unless its comment says otherwise, a function returns what the system call returned: a value of
   at least 0, or -1 with errno set. None retries, allocates or keeps state. */
#ifndef CPLATFORM_H
#define CPLATFORM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* errno ------------------------------------------------------------------------------------- */

/* The symbolic name ("ENOENT") and the English sentence of an error number; NULL if unknown.
   Both are constants: no locale, no lock, no allocation. */
const char *swp_errno_name(int code);
const char *swp_errno_text(int code);

/* Readiness --------------------------------------------------------------------------------- */

/* One entry that epoll reported; the layout is the kernel's own. */
#if defined(__x86_64__)
struct __attribute__((packed)) swp_ready {
#else
struct swp_ready {
#endif
  uint32_t events;
  uint64_t token;
};

enum {
  swp_epoll_add = 1,
  swp_epoll_remove = 2,
  swp_epoll_modify = 3,
};

int swp_epoll_create(void);
int swp_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token);
int swp_epoll_wait(int epoll, struct swp_ready *entries, int capacity, int timeout_milliseconds);
int swp_timer_create(void);
/* Arms the timer for an absolute CLOCK_MONOTONIC instant of at least 1 ns, or disarms it with 0. */
int swp_timer_set(int timer, int64_t nanoseconds);
int swp_event_create(void);

/* Sockets ----------------------------------------------------------------------------------- */

int swp_accept(int listener);
/* Sends `length` bytes (at least 1) together with one descriptor. */
ssize_t swp_send_descriptor(int socket, const void *bytes, size_t length, int descriptor);
/* Who is at the other end of a unix socket, as the kernel noted it at connect() or listen(). */
int swp_peer_credentials(int socket, int32_t *pid_out, uint32_t *uid_out, uint32_t *gid_out);
/* A pidfd of the process at the other end (Linux 6.5); ENOPROTOOPT on older kernels. */
int swp_peer_pidfd(int socket);

/* Unix sockets known to the kernel (sock_diag) ---------------------------------------------- */

/* One listening unix socket of this network namespace. */
struct swp_unix_listener {
  uint32_t inode;
  uint32_t cookie[2];
  uint32_t waiting;       /* connections in the queue that nobody accepted yet */
  int has_file;           /* the two fields below are known */
  uint32_t file_inode;
  uint64_t file_device;   /* as in stat() */
  int name_length;        /* 0: unnamed; a first byte of 0: abstract */
  char name[109];
};

int swp_diag_open(void);
/* Asks for every listening unix socket, or only for `inode` with `cookie` when not NULL. */
ssize_t swp_diag_request(int diag, const struct swp_unix_listener *exactly);
/* Reads the next answers; never blocks. For each listener `visit` is called. Returns 1 when the
   list is complete, 0 when more is to be read, or -1 with errno (EAGAIN: nothing there). */
int swp_diag_receive(int diag, int is_dump, void *context,
                     void (*visit)(void *context, const struct swp_unix_listener *listener));

/* Processes --------------------------------------------------------------------------------- */

int swp_pidfd_open(int32_t pid);
int swp_pidfd_signal(int pidfd, int signal);
/* 1 when the process behind the pidfd has ended, 0 while it lives; never blocks. */
int swp_pidfd_ended(int pidfd);

enum {
  swp_child_running = 0,
  swp_child_exited = 1,
  swp_child_signalled = 2,
};

/* Collects the child behind the pidfd without blocking; one of the constants above. */
int swp_pidfd_reap(int pidfd, int *status_out);

/* A word of memory that reads 1 in the process that made it and 0 in every fork of it, so that the
   question costs no system call; NULL with errno set. */
volatile uint32_t *swp_fork_marker_create(void);
void swp_fork_marker_destroy(volatile uint32_t *marker);
uint32_t swp_fork_marker_read(const volatile uint32_t *marker);

/* Starts `arguments[0]` (searched in PATH) in a session of its own with default signal actions, an
   empty signal mask and no descriptor but 0, 1 and 2, which are copies of the three given ones
   (each at least 3). Returns 0 or an error number; errno is left alone. */
int swp_spawn(int32_t *pid_out, char *const arguments[], char *const environment[],
              const int descriptors[3]);
char **swp_environment(void);

/* Files ------------------------------------------------------------------------------------- */

/* Takes an exclusive lock that belongs to the open file, without waiting (EAGAIN: held). */
int swp_lock_exclusively(int descriptor);

/* Error text of the C interface ------------------------------------------------------------- */

/* The calling thread's last error text: one line of valid UTF-8 as far as the caller gave such,
   at most 511 bytes, cut at a character. The pointer stays valid as long as the thread. */
const char *swp_last_error(void);
void swp_set_last_error(const char *bytes, size_t length);

/* Fault injection --------------------------------------------------------------------------- */

/* The failure that a test of this thread wants next; exists in debug builds only. */
struct swp_fault {
  int call;      /* -1: none */
  int code;
  int skip;      /* calls to let pass first */
  int count;     /* calls to fail then */
};
struct swp_fault *swp_fault_of_thread(void);

#endif
