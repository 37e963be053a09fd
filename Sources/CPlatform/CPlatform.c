#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "CPlatform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* Older headers than the kernels that we run on. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

_Static_assert(sizeof(struct swp_ready) == sizeof(struct epoll_event), "epoll layout");
_Static_assert(offsetof(struct swp_ready, token) == offsetof(struct epoll_event, data),
               "epoll layout");
_Static_assert(swp_epoll_add == EPOLL_CTL_ADD && swp_epoll_remove == EPOLL_CTL_DEL &&
                   swp_epoll_modify == EPOLL_CTL_MOD,
               "epoll operations");

/* errno ------------------------------------------------------------------------------------- */

const char *swp_errno_name(int code) { return strerrorname_np(code); }

const char *swp_errno_text(int code) { return strerrordesc_np(code); }

/* Readiness --------------------------------------------------------------------------------- */

int swp_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int swp_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return epoll_ctl(epoll, operation, descriptor, &event);
}

int swp_epoll_wait(int epoll, struct swp_ready *entries, int capacity, int timeout_milliseconds) {
  return epoll_wait(epoll, (struct epoll_event *)entries, capacity, timeout_milliseconds);
}

int swp_timer_create(void) {
  return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

int swp_timer_set(int timer, int64_t nanoseconds) {
  struct itimerspec when = {0};
  when.it_value.tv_sec = nanoseconds / 1000000000;
  when.it_value.tv_nsec = nanoseconds % 1000000000;
  return timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int swp_event_create(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

/* Sockets ----------------------------------------------------------------------------------- */

int swp_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

ssize_t swp_send_descriptor(int socket, const void *bytes, size_t length, int descriptor) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } control;
  memset(&control, 0, sizeof control);
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int swp_peer_credentials(int socket, int32_t *pid_out, uint32_t *uid_out, uint32_t *gid_out) {
  struct ucred credentials = {0};
  socklen_t length = sizeof credentials;
  int result = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length);
  if (result == 0) {
    *pid_out = credentials.pid;
    *uid_out = credentials.uid;
    *gid_out = credentials.gid;
  }
  return result;
}

int swp_peer_pidfd(int socket) {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  int result = getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length);
  return result == 0 ? pidfd : -1;
}

/* Unix sockets known to the kernel (sock_diag) ---------------------------------------------- */

int swp_diag_open(void) {
  return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
}

ssize_t swp_diag_request(int diag, const struct swp_unix_listener *exactly) {
  struct {
    struct nlmsghdr header;
    struct unix_diag_req body;
  } request;
  memset(&request, 0, sizeof request);
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | (exactly ? 0 : NLM_F_DUMP);
  request.body.sdiag_family = AF_UNIX;
  request.body.udiag_states = 1 << 10; /* listening */
  request.body.udiag_show = UDIAG_SHOW_RQLEN;
  if (exactly) {
    request.body.udiag_ino = exactly->inode;
    memcpy(request.body.udiag_cookie, exactly->cookie, sizeof exactly->cookie);
  } else {
    request.body.udiag_show |= UDIAG_SHOW_NAME | UDIAG_SHOW_VFS;
  }
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  return sendto(diag, &request, sizeof request, MSG_DONTWAIT, (struct sockaddr *)&kernel,
                sizeof kernel);
}

static void read_attribute(struct swp_unix_listener *listener, unsigned type, const char *bytes,
                           size_t length) {
  if (type == UNIX_DIAG_NAME) {
    if (length > sizeof listener->name - 1) length = sizeof listener->name - 1;
    memcpy(listener->name, bytes, length);
    listener->name_length = (int)length;
  } else if (type == UNIX_DIAG_VFS && length >= sizeof(struct unix_diag_vfs)) {
    struct unix_diag_vfs file;
    memcpy(&file, bytes, sizeof file);
    listener->has_file = 1;
    listener->file_inode = file.udiag_vfs_ino;
    /* The kernel's own form of a device number: 12 bits major, 20 bits minor. */
    listener->file_device =
        makedev(file.udiag_vfs_dev >> 20, file.udiag_vfs_dev & ((1u << 20) - 1));
  } else if (type == UNIX_DIAG_RQLEN && length >= sizeof(struct unix_diag_rqlen)) {
    struct unix_diag_rqlen queue;
    memcpy(&queue, bytes, sizeof queue);
    listener->waiting = queue.udiag_rqueue;
  }
}

static void read_listener(struct swp_unix_listener *listener, const char *bytes, size_t length) {
  struct unix_diag_msg message;
  memset(listener, 0, sizeof *listener);
  memcpy(&message, bytes, sizeof message);
  listener->inode = message.udiag_ino;
  memcpy(listener->cookie, message.udiag_cookie, sizeof listener->cookie);
  size_t offset = NLMSG_ALIGN(sizeof message);
  while (offset + NLA_HDRLEN <= length) {
    struct nlattr attribute;
    memcpy(&attribute, bytes + offset, sizeof attribute);
    if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > length - offset) return;
    read_attribute(listener, attribute.nla_type & NLA_TYPE_MASK, bytes + offset + NLA_HDRLEN,
                   attribute.nla_len - NLA_HDRLEN);
    offset += NLA_ALIGN(attribute.nla_len);
  }
}

int swp_diag_receive(int diag, int is_dump, void *context,
                     void (*visit)(void *context, const struct swp_unix_listener *listener)) {
  char buffer[16384] __attribute__((aligned(8)));
  ssize_t received = recv(diag, buffer, sizeof buffer, MSG_DONTWAIT);
  if (received < 0) return -1;
  size_t offset = 0;
  size_t end = (size_t)received;
  while (offset + sizeof(struct nlmsghdr) <= end) {
    struct nlmsghdr header;
    memcpy(&header, buffer + offset, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > end - offset) break;
    const char *body = buffer + offset + NLMSG_HDRLEN;
    size_t length = header.nlmsg_len - NLMSG_HDRLEN;
    if (header.nlmsg_type == NLMSG_DONE) return 1;
    if (header.nlmsg_type == NLMSG_ERROR) {
      struct nlmsgerr error = {.error = -EPROTO};
      if (length >= sizeof error) memcpy(&error, body, sizeof error);
      errno = -error.error;
      return -1;
    }
    if (length >= sizeof(struct unix_diag_msg)) {
      struct swp_unix_listener listener;
      read_listener(&listener, body, length);
      visit(context, &listener);
    }
    if (!is_dump) return 1;
    offset += NLMSG_ALIGN(header.nlmsg_len);
  }
  return 0;
}

/* Processes --------------------------------------------------------------------------------- */

int swp_pidfd_open(int32_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int swp_pidfd_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int swp_pidfd_ended(int pidfd) {
  struct pollfd entry = {.fd = pidfd, .events = POLLIN};
  int count = poll(&entry, 1, 0);
  if (count > 0 && !(entry.revents & POLLIN)) {
    errno = EBADF;
    return -1;
  }
  return count;
}

int swp_pidfd_reap(int pidfd, int *status_out) {
  siginfo_t information;
  memset(&information, 0, sizeof information);
  if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &information, WEXITED | WNOHANG) < 0) return -1;
  if (information.si_pid == 0) return swp_child_running;
  *status_out = information.si_status;
  return information.si_code == CLD_EXITED ? swp_child_exited : swp_child_signalled;
}

volatile uint32_t *swp_fork_marker_create(void) {
  void *page = mmap(NULL, sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0);
  if (page == MAP_FAILED) return NULL;
  if (madvise(page, sizeof(uint32_t), MADV_WIPEONFORK) != 0) {
    munmap(page, sizeof(uint32_t));
    return NULL;
  }
  volatile uint32_t *marker = page;
  *marker = 1;
  return marker;
}

void swp_fork_marker_destroy(volatile uint32_t *marker) {
  if (marker) munmap((void *)marker, sizeof(uint32_t));
}

uint32_t swp_fork_marker_read(const volatile uint32_t *marker) { return *marker; }

static int prepare_attributes(posix_spawnattr_t *attributes) {
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  int code = posix_spawnattr_setflags(
      attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
  if (code == 0) code = posix_spawnattr_setsigdefault(attributes, &all);
  if (code == 0) code = posix_spawnattr_setsigmask(attributes, &none);
  return code;
}

static int prepare_descriptors(posix_spawn_file_actions_t *actions, const int descriptors[3]) {
  int code = 0;
  for (int number = 0; number < 3 && code == 0; number++)
    code = posix_spawn_file_actions_adddup2(actions, descriptors[number], number);
  if (code == 0) code = posix_spawn_file_actions_addclosefrom_np(actions, 3);
  return code;
}

int swp_spawn(int32_t *pid_out, char *const arguments[], char *const environment[],
              const int descriptors[3]) {
  int saved = errno;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  int code = posix_spawnattr_init(&attributes);
  if (code != 0) return code;
  code = posix_spawn_file_actions_init(&actions);
  if (code == 0) {
    code = prepare_attributes(&attributes);
    if (code == 0) code = prepare_descriptors(&actions, descriptors);
    pid_t pid = 0;
    if (code == 0)
      code = posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments, environment);
    if (code == 0) *pid_out = pid;
    posix_spawn_file_actions_destroy(&actions);
  }
  posix_spawnattr_destroy(&attributes);
  errno = saved;
  return code;
}

char **swp_environment(void) { return environ; }

/* Files ------------------------------------------------------------------------------------- */

int swp_lock_exclusively(int descriptor) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  return fcntl(descriptor, F_OFD_SETLK, &lock);
}

/* Error text of the C interface ------------------------------------------------------------- */

enum { last_error_capacity = 512 };
static _Thread_local char last_error[last_error_capacity];

const char *swp_last_error(void) { return last_error; }

void swp_set_last_error(const char *bytes, size_t length) {
  if (length > last_error_capacity - 1) {
    length = last_error_capacity - 1;
    /* Never half a character: step back over the continuation bytes that follow the cut. */
    while (length > 0 && ((unsigned char)bytes[length] & 0xC0) == 0x80) length--;
  }
  for (size_t index = 0; index < length; index++) {
    unsigned char byte = (unsigned char)bytes[index];
    last_error[index] = byte < 0x20 || byte == 0x7F ? ' ' : (char)byte;
  }
  last_error[length] = 0;
}

/* Fault injection --------------------------------------------------------------------------- */

#ifdef DEBUG
static _Thread_local struct swp_fault fault = {.call = -1};

struct swp_fault *swp_fault_of_thread(void) { return &fault; }
#endif
