#define _GNU_SOURCE
#include "CQEMUHarness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Only calls that are allowed between fork and exec in a program with threads. */
static void become(char *const arguments[], const char *output_path, const char *error_path,
                   pid_t parent, int report) {
  sigset_t none;
  const int writing = O_WRONLY | O_CREAT | O_APPEND;
  /* Above the standard numbers, so that no dup2 below overwrites one of them. */
  int input = fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 10);
  int output = fcntl(open(output_path, writing, 0600), F_DUPFD, 10);
  int error = fcntl(open(error_path, writing, 0600), F_DUPFD, 10);
  report = fcntl(report, F_DUPFD, 10);
  if (report < 0) _exit(127);
  if (input < 0 || output < 0 || error < 0) goto failed;
  if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(error, 2) < 0) goto failed;
  if (dup2(report, 3) < 0) goto failed;
  report = 3;
  if (fcntl(report, F_SETFD, FD_CLOEXEC) < 0) goto failed;
  if (close_range(4, ~0U, 0) < 0) goto failed;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  /* Shells let what they start in the background ignore these. */
  signal(SIGINT, SIG_DFL);
  signal(SIGQUIT, SIG_DFL);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) goto failed;
  /* The parent may have died before the request was made. */
  if (getppid() != parent) _exit(127);
  execv(arguments[0], arguments);
failed: {
  int code = errno;
  ssize_t written = write(report, &code, sizeof code);
  (void)written;
  _exit(127);
}
}

pid_t qemu_harness_spawn(char *const arguments[], const char *output_path,
                         const char *error_path) {
  int ends[2], code = 0;
  pid_t parent = getpid();
  if (qemu_harness_pipe(ends) < 0) return -1;
  pid_t child = fork();
  if (child == 0) become(arguments, output_path, error_path, parent, ends[1]);
  int fork_error = errno;
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    errno = fork_error;
    return -1;
  }
  ssize_t count;
  do {
    count = read(ends[0], &code, sizeof code);
  } while (count < 0 && errno == EINTR);
  close(ends[0]);
  if (count == 0) return child;
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
  }
  errno = code;
  return -1;
}

int qemu_harness_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int qemu_harness_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC); }

int qemu_harness_poll(struct pollfd *waited, unsigned long count, int64_t nanoseconds) {
  struct timespec limit = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
  return ppoll(waited, count, nanoseconds < 0 ? NULL : &limit, NULL);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
  (void)status, (void)type, (void)place;
  return remove(path);
}

int qemu_harness_remove_tree(const char *path) {
  return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
