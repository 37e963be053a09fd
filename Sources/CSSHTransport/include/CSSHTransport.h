/*
 * One libssh2 session with everything around it that libssh2 would otherwise decide by itself: its
 * memory, its socket calls, and its signatures by somebody else.
 *
 * - Memory: counted against a limit, handed out zeroed, wiped when freed, and never freed twice.
 * - Receiving: never more than a budget that the owner grants for one turn, so that a peer that
 *   never stops sending cannot keep the caller in a loop.
 * - Sending: always accepted into a queue. libssh2 can hold one half-sent packet for a whole
 *   session and refuses every other operation until exactly that one is repeated; with a queue in
 *   between no packet is ever half-sent.
 */
#ifndef CSSHTRANSPORT_H
#define CSSHTRANSPORT_H

#include <libssh2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What each piece of memory costs beside its size: its place in the table, and the C library's. */
#define SSH_BLOCK_OVERHEAD ((size_t)48)

/* Where a signature by somebody else (an agent) stands. */
enum ssh_signature_state {
  SSH_SIGNATURE_NONE = 0,
  /* libssh2 asked; `signing_input` holds what is to be signed. */
  SSH_SIGNATURE_WANTED = 1,
  /* `signature` holds the answer. */
  SSH_SIGNATURE_READY = 2,
  SSH_SIGNATURE_REFUSED = 3
};

typedef struct ssh_transport {
  LIBSSH2_SESSION *_Nullable session;
  int descriptor;

  /* Receiving. */
  size_t receive_budget;
  bool budget_exhausted;
  bool peer_ended;
  int receive_errno;
  uint64_t received;

  /* Sending: the queue is `output[output_start ..< output_end]`. */
  unsigned char *_Nullable output;
  size_t output_start;
  size_t output_end;
  size_t output_capacity;
  size_t output_limit;
  bool output_exceeded;
  int send_errno;
  uint64_t packets_sent;

  /* Memory of libssh2. */
  size_t memory_used;
  size_t memory_limit;
  bool memory_exceeded;
  struct ssh_block *_Nullable blocks;
  size_t block_count;
  size_t block_capacity;

  /* Whether the handshake was begun and not finished; the owner keeps it. */
  bool handshaking;
  /* Set when the connection is lost: nothing is sent or received; what has arrived stays. */
  bool muted;
  /* Set for the end: libssh2 meets an end of file and comes to its own. */
  bool severed;

  /* The peer's own word for ending the session, printable ASCII only. */
  bool disconnected;
  uint32_t disconnect_reason;
  char disconnect_text[200];

  /* A signature by somebody else. */
  int signature_state;
  unsigned char *_Nullable signing_input;
  size_t signing_input_count;
  unsigned char *_Nullable signature;
  size_t signature_count;
} ssh_transport;

/*
 * Makes a session over `descriptor`, in non-blocking mode. NULL without memory, or if libssh2
 * cannot start. Initialises libssh2 at the first call in the process, once, whatever thread
 * comes first; a host program that uses libssh2 on other threads too must have initialised it
 * before. Nothing in libssh2 or here is shared between sessions otherwise.
 */
ssh_transport *_Nullable ssh_transport_create(int descriptor, size_t memory_limit,
                                              size_t output_limit);

/* Frees the session without a word to the peer. NULL is allowed. The descriptor stays open: it is
 * the caller's. */
void ssh_transport_destroy(ssh_transport *_Nullable transport);

/* Sends what is queued, as far as the socket takes it. 0, or the errno that ends the connection. */
int ssh_transport_flush(ssh_transport *_Nonnull transport);

/* How many bytes wait to be sent. */
size_t ssh_transport_output_count(const ssh_transport *_Nonnull transport);

/* Whether the socket has something to read now: 1 bytes, 0 nothing, -1 an end or an error. */
int ssh_transport_peek(const ssh_transport *_Nonnull transport);

/* Public-key authentication with a signature by somebody else: LIBSSH2_ERROR_EAGAIN with
 * `signature_state` wanted means that one is to be provided. */
int ssh_transport_authenticate(ssh_transport *_Nonnull transport, const char *_Nonnull user,
                               const unsigned char *_Nonnull key, size_t key_count);

/* Gives the signature that was wanted; a count of 0 refuses. False without memory. */
bool ssh_transport_provide_signature(ssh_transport *_Nonnull transport,
                                     const unsigned char *_Nullable signature, size_t count);

/* Forgets a signature that is wanted or was given. */
void ssh_transport_forget_signature(ssh_transport *_Nonnull transport);

/* Overwrites `count` bytes so that no compiler leaves it out. */
void ssh_wipe(void *_Nonnull bytes, size_t count);

/* The version of the libssh2 that is loaded, not of the headers that were compiled against. */
const char *_Nullable ssh_library_version(void);

#endif
