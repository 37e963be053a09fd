/* What the test harness needs of Linux and Swift's view of the C library does not show. */
#ifndef C_QEMU_HARNESS_H
#define C_QEMU_HARNESS_H

#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

/* Starts a program with nothing but its standard streams: input from nowhere, output and errors
   appended to files. The kernel kills it when the calling thread ends.
   Returns its process id, or -1 with errno set, also when the program cannot be executed. */
pid_t qemu_harness_spawn(char *const arguments[], const char *output_path, const char *error_path);

/* Makes a pipe that no other program inherits. Returns 0, or -1 with errno set. */
int qemu_harness_pipe(int ends[2]);

/* Accepts a connection that no other program inherits. Returns it, or -1 with errno set. */
int qemu_harness_accept(int listener);

/* poll with a limit in nanoseconds; a negative one waits for ever. */
int qemu_harness_poll(struct pollfd *waited, unsigned long count, int64_t nanoseconds);

/* Deletes a directory with everything in it. Returns 0, or -1 with errno set. */
int qemu_harness_remove_tree(const char *path);

#endif
