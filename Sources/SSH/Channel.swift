import MigrationEngine

/// One channel: what it was opened for, how far it is, and what waits to be sent.
final class Channel {
  enum State {
    case queued
    case opening
    /// Open; the command is being started.
    case starting
    case open
    /// Being closed; the slot is free when libssh2 has heard the other side.
    case closing
  }

  let id: SSHChannelID
  /// The type of RFC 4254, section 5.1.
  let type: String
  /// What follows the type's common fields in the request to open.
  let payload: [UInt8]
  let command: String?
  /// What the channel leads to, in words.
  let destination: String

  var state = State.queued
  var handle: OpaquePointer?
  /// When to give up on what the state waits for.
  var deadline: MonotonicInstant?
  /// The caller has heard of the end.
  var isForgotten = false

  /// A piece that libssh2 has taken and not sent, because keys are being exchanged: it must get the
  /// same bytes again.
  var pendingWrite: [UInt8] = []
  var wantsEnd = false
  var endSent = false
  /// A write was cut short; say when it can go on.
  var isWriteBlocked = false
  /// The caller was told that there is something to read and has not yet found the end of it.
  var isReadAnnounced = false
  /// The caller has read the end.
  var isEndRead = false

  init(
    id: SSHChannelID, type: String, payload: [UInt8], command: String? = nil, destination: String,
    deadline: MonotonicInstant?
  ) {
    self.id = id
    self.type = type
    self.payload = payload
    self.command = command
    self.destination = destination
    self.deadline = deadline
  }
}

/// What libssh2's one place for opening channels is used for.
enum Opening {
  case nothing
  case channel(Channel)
  /// A request for a channel of a type that does not exist. Its refusal is a sign of life.
  case probe
}
