#define _GNU_SOURCE
#include "CSSHTransport.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* A piece of memory that libssh2 has, in a table by its address; `address` 0 is a free place. */
struct ssh_block {
  uintptr_t address;
  size_t size;
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_status;

static void library_start(void) { library_status = libssh2_init(0); }

void ssh_wipe(void *bytes, size_t count) { explicit_bzero(bytes, count); }

const char *ssh_library_version(void) { return libssh2_version(0); }

/* Memory
 *
 * The pieces are the C library's own: libssh2 gives some of them to OpenSSL, which frees them
 * behind our back. What it gives back to us is looked up first, so that a piece that it frees twice
 * after an error, or never got from us, is left alone. */

static size_t table_home(const ssh_transport *transport, uintptr_t address) {
  return (size_t)((address >> 4) * 0x9E3779B97F4A7C15u >> 20) & (transport->block_capacity - 1);
}

static size_t table_next(const ssh_transport *transport, size_t place) {
  return (place + 1) & (transport->block_capacity - 1);
}

/* The place of `address`, or the free place where it would go. */
static size_t table_find(const ssh_transport *transport, uintptr_t address) {
  size_t place = table_home(transport, address);
  while (transport->blocks[place].address != 0 && transport->blocks[place].address != address)
    place = table_next(transport, place);
  return place;
}

static void table_remove(ssh_transport *transport, size_t place) {
  struct ssh_block *blocks = transport->blocks;
  transport->memory_used -= blocks[place].size;
  transport->block_count--;
  /* Later ones of the same run move up, so that no search ends early. */
  for (size_t next = table_next(transport, place); blocks[next].address != 0;
       next = table_next(transport, next)) {
    size_t home = table_home(transport, blocks[next].address);
    size_t mask = transport->block_capacity - 1;
    if (((next - home) & mask) < ((next - place) & mask)) continue;
    blocks[place] = blocks[next];
    place = next;
  }
  blocks[place].address = 0;
}

static bool table_reserve(ssh_transport *transport) {
  if (transport->block_count < transport->block_capacity / 2) return true;
  struct ssh_block *old = transport->blocks;
  size_t old_capacity = transport->block_capacity;
  size_t capacity = old_capacity == 0 ? 128 : old_capacity * 2;
  struct ssh_block *grown = calloc(capacity, sizeof *grown);
  if (grown == NULL) return false;
  transport->blocks = grown;
  transport->block_capacity = capacity;
  for (size_t place = 0; place < old_capacity; place++)
    if (old[place].address != 0) grown[table_find(transport, old[place].address)] = old[place];
  free(old);
  return true;
}

static void *memory_allocate(size_t count, void **abstract) {
  ssh_transport *transport = *abstract;
  size_t size;
  if (__builtin_add_overflow(count, SSH_BLOCK_OVERHEAD, &size) ||
      size > transport->memory_limit - transport->memory_used) {
    transport->memory_exceeded = true;
    return NULL;
  }
  if (!table_reserve(transport)) return NULL;
  /* Zeroed: libssh2 reads a string that it allocated for a peer's length and did not fill. */
  void *pointer = calloc(1, count > 0 ? count : 1);
  if (pointer == NULL) return NULL;
  size_t place = table_find(transport, (uintptr_t)pointer);
  /* An address that is still there was freed behind our back. */
  if (transport->blocks[place].address != 0) {
    table_remove(transport, place);
    place = table_find(transport, (uintptr_t)pointer);
  }
  transport->blocks[place] = (struct ssh_block){(uintptr_t)pointer, size};
  transport->block_count++;
  transport->memory_used += size;
  return pointer;
}

static void memory_free(void *pointer, void **abstract) {
  ssh_transport *transport = *abstract;
  if (pointer == NULL || transport->block_capacity == 0) return;
  size_t place = table_find(transport, (uintptr_t)pointer);
  if (transport->blocks[place].address == 0) return;
  size_t count = transport->blocks[place].size - SSH_BLOCK_OVERHEAD;
  table_remove(transport, place);
  explicit_bzero(pointer, count);
  free(pointer);
}

static void *memory_reallocate(void *pointer, size_t count, void **abstract) {
  ssh_transport *transport = *abstract;
  void *grown = memory_allocate(count, abstract);
  if (grown == NULL || pointer == NULL) return grown;
  size_t place = table_find(transport, (uintptr_t)pointer);
  if (transport->blocks[place].address != 0) {
    size_t old = transport->blocks[place].size - SSH_BLOCK_OVERHEAD;
    memcpy(grown, pointer, old < count ? old : count);
    memory_free(pointer, abstract);
  }
  return grown;
}

/* The socket */

static ssize_t socket_receive(libssh2_socket_t descriptor, void *buffer, size_t length, int flags,
                              void **abstract) {
  ssh_transport *transport = *abstract;
  (void)flags;
  if (transport->severed) return 0;
  if (transport->muted) return -EAGAIN;
  if (transport->receive_budget == 0) {
    transport->budget_exhausted = true;
    return -EAGAIN;
  }
  if (length > transport->receive_budget) length = transport->receive_budget;
  ssize_t count = recv(descriptor, buffer, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return -EAGAIN;
    transport->receive_errno = errno;
    return -errno;
  }
  if (count == 0) transport->peer_ended = true;
  transport->receive_budget -= (size_t)count;
  transport->received += (uint64_t)count;
  return count;
}

static bool output_reserve(ssh_transport *transport, size_t length) {
  size_t waiting = transport->output_end - transport->output_start;
  if (length > transport->output_limit - waiting) return false;
  if (length <= transport->output_capacity - transport->output_end) return true;
  if (transport->output_start > 0) {
    memmove(transport->output, transport->output + transport->output_start, waiting);
    transport->output_start = 0;
    transport->output_end = waiting;
    if (length <= transport->output_capacity - waiting) return true;
  }
  size_t capacity = transport->output_capacity == 0 ? 16384 : transport->output_capacity;
  while (capacity < waiting + length) capacity *= 2;
  unsigned char *grown = realloc(transport->output, capacity);
  if (grown == NULL) return false;
  transport->output = grown;
  transport->output_capacity = capacity;
  return true;
}

static ssize_t socket_send(libssh2_socket_t descriptor, const void *buffer, size_t length,
                           int flags, void **abstract) {
  ssh_transport *transport = *abstract;
  (void)descriptor;
  (void)flags;
  if (transport->severed || transport->muted) return (ssize_t)length;
  if (transport->send_errno != 0) return -transport->send_errno;
  if (!output_reserve(transport, length)) {
    transport->output_exceeded = true;
    return -ENOBUFS;
  }
  memcpy(transport->output + transport->output_end, buffer, length);
  transport->output_end += length;
  transport->packets_sent++;
  return (ssize_t)length;
}

int ssh_transport_flush(ssh_transport *transport) {
  while (transport->output_start < transport->output_end && !transport->muted) {
    if (transport->send_errno != 0) return transport->send_errno;
    ssize_t count = send(transport->descriptor, transport->output + transport->output_start,
                         transport->output_end - transport->output_start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS) return 0;
      transport->send_errno = errno;
      return errno;
    }
    transport->output_start += (size_t)count;
  }
  transport->output_start = 0;
  transport->output_end = 0;
  return 0;
}

size_t ssh_transport_output_count(const ssh_transport *transport) {
  return transport->muted ? 0 : transport->output_end - transport->output_start;
}

int ssh_transport_peek(const ssh_transport *transport) {
  char byte;
  ssize_t count = recv(transport->descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (count > 0) return 1;
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
  return -1;
}

/* What the peer says */

static void peer_disconnected(LIBSSH2_SESSION *session, int reason, const char *message,
                              int message_length, const char *language, int language_length,
                              void **abstract) {
  ssh_transport *transport = *abstract;
  (void)session;
  (void)language;
  (void)language_length;
  transport->disconnected = true;
  transport->disconnect_reason = (uint32_t)reason;
  size_t count = 0;
  if (message != NULL && message_length > 0) {
    while (count < (size_t)message_length && count < sizeof transport->disconnect_text - 1) {
      unsigned char byte = (unsigned char)message[count];
      transport->disconnect_text[count] = byte >= 0x20 && byte < 0x7f ? (char)byte : '?';
      count++;
    }
  }
  transport->disconnect_text[count] = '\0';
}

/* Signatures */

static int signature_callback(LIBSSH2_SESSION *session, unsigned char **signature,
                              size_t *signature_count, const unsigned char *input,
                              size_t input_count, void **abstract) {
  ssh_transport *transport = *abstract;
  void *memory = transport;
  (void)session;
  switch (transport->signature_state) {
    case SSH_SIGNATURE_NONE:
      transport->signing_input = malloc(input_count > 0 ? input_count : 1);
      if (transport->signing_input == NULL) return LIBSSH2_ERROR_ALLOC;
      memcpy(transport->signing_input, input, input_count);
      transport->signing_input_count = input_count;
      transport->signature_state = SSH_SIGNATURE_WANTED;
      return LIBSSH2_ERROR_EAGAIN;
    case SSH_SIGNATURE_WANTED:
      return LIBSSH2_ERROR_EAGAIN;
    case SSH_SIGNATURE_READY:
      *signature = memory_allocate(transport->signature_count, &memory);
      if (*signature == NULL) return LIBSSH2_ERROR_ALLOC;
      memcpy(*signature, transport->signature, transport->signature_count);
      *signature_count = transport->signature_count;
      return 0;
    default:
      return LIBSSH2_ERROR_AUTHENTICATION_FAILED;
  }
}

int ssh_transport_authenticate(ssh_transport *transport, const char *user,
                               const unsigned char *key, size_t key_count) {
  void *abstract = transport;
  return libssh2_userauth_publickey(transport->session, user, key, key_count, signature_callback,
                                    &abstract);
}

bool ssh_transport_provide_signature(ssh_transport *transport, const unsigned char *signature,
                                     size_t count) {
  if (transport->signature_state != SSH_SIGNATURE_WANTED) return true;
  transport->signature_state = SSH_SIGNATURE_REFUSED;
  if (count == 0) return true;
  transport->signature = malloc(count);
  if (transport->signature == NULL) return false;
  memcpy(transport->signature, signature, count);
  transport->signature_count = count;
  transport->signature_state = SSH_SIGNATURE_READY;
  return true;
}

void ssh_transport_forget_signature(ssh_transport *transport) {
  free(transport->signing_input);
  free(transport->signature);
  transport->signing_input = NULL;
  transport->signing_input_count = 0;
  transport->signature = NULL;
  transport->signature_count = 0;
  transport->signature_state = SSH_SIGNATURE_NONE;
}

/* Life */

ssh_transport *ssh_transport_create(int descriptor, size_t memory_limit, size_t output_limit) {
  if (pthread_once(&library_once, library_start) != 0 || library_status != 0) return NULL;
  ssh_transport *transport = calloc(1, sizeof *transport);
  if (transport == NULL) return NULL;
  transport->descriptor = descriptor;
  transport->memory_limit = memory_limit;
  transport->output_limit = output_limit;
  transport->session =
      libssh2_session_init_ex(memory_allocate, memory_free, memory_reallocate, transport);
  if (transport->session == NULL) {
    ssh_transport_destroy(transport);
    return NULL;
  }
  libssh2_session_set_blocking(transport->session, 0);
  libssh2_session_callback_set(transport->session, LIBSSH2_CALLBACK_RECV, socket_receive);
  libssh2_session_callback_set(transport->session, LIBSSH2_CALLBACK_SEND, socket_send);
  libssh2_session_callback_set(transport->session, LIBSSH2_CALLBACK_DISCONNECT, peer_disconnected);
  return transport;
}

/* Lets libssh2 end by itself what is under way: a key exchange holds memory of the cryptographic
 * library that only its own error path gives back. Severed, each call meets an end of file. */
static void session_end(ssh_transport *transport) {
  LIBSSH2_SESSION *session = transport->session;
  if (transport->handshaking) {
    libssh2_session_handshake(session, transport->descriptor);
  } else if (libssh2_userauth_authenticated(session)) {
    libssh2_keepalive_config(session, 0, 2);
    libssh2_keepalive_send(session, NULL);
  }
  /* The limit is for a libssh2 that would not come to an end. */
  for (int attempt = 0; attempt < 1000; attempt++)
    if (libssh2_session_free(session) != LIBSSH2_ERROR_EAGAIN) break;
}

void ssh_transport_destroy(ssh_transport *transport) {
  if (transport == NULL) return;
  transport->severed = true;
  if (transport->session != NULL) session_end(transport);
  free(transport->blocks);
  ssh_transport_forget_signature(transport);
  free(transport->output);
  free(transport);
}
