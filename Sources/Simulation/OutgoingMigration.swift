import MigrationEngine

/// The sending side of a migration.
public struct OutgoingMigration: Sendable {
  public enum Status: String, Sendable {
    case none, setup, active, device, completed, failed, cancelling, cancelled
    case preSwitchover = "pre-switchover"

    var isFinal: Bool {
      switch self {
      case .none, .completed, .failed, .cancelled: true
      default: false
      }
    }
  }

  /// What its thread does.
  enum Stage: Sendable {
    case idle, connecting, streaming
    /// The guest stands; its disks are drained. The main loop is blocked.
    case draining
    case preSwitchover
    /// Something of the block layer is in flight still. The main loop is blocked.
    case settling
    /// The last RAM and the device state go out. The main loop is blocked.
    case flushing, flushingState
    /// Everything is sent; the return path has not said yet whether it loaded.
    case awaitingAcknowledgement
    /// The status is about to be set, or what follows from it.
    case concluding, cleaningUp
  }

  public internal(set) var status = Status.none
  var stage = Stage.idle
  var generation = 0
  var error: String?
  /// The run state from before the switchover; the source goes back to it.
  var oldRunState: QEMURunState?
  var pass: UInt64 = 0
  var remaining: UInt64 = 0
  var transferred: UInt64 = 0
  var passStartedAt = MonotonicInstant(nanoseconds: 0)
  var startedAt = MonotonicInstant(nanoseconds: 0)
  var connectedAt = MonotonicInstant(nanoseconds: 0)
  var stoppedAt: MonotonicInstant?
  var endedAt = MonotonicInstant(nanoseconds: 0)
  var lastChunk: UInt64 = 0
  /// The time that the chunk takes at the bandwidth it was sent with.
  var chunkWindow = Span.zero
  /// Measured with the last chunk, bytes a second.
  var rate = 0.0
  var chunkSentAt = MonotonicInstant(nanoseconds: 0)
  var peerIsGone = false
  /// What was written last is not in the system's buffers yet.
  var isWriting = false
  var hasReturnPath = false
  var acknowledgement: Bool?
  var result = Status.completed

  var isUnderway: Bool { !status.isFinal }
}

/// The steps of the migration thread that wait for time to pass.
enum MigrationStep {
  static let chunk = 1
  static let drained = 2
  static let continued = 3
  static let conclude = 4
  static let cleanUp = 5
  static let noticeCancel = 6
  static let cancelConnecting = 7
  static let passEnd = 8
}
