import MigrationEngine

extension Endpoint: CustomStringConvertible {
  /// The address as the C interface takes it.
  public var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port): "tcp:\(host):\(port)"
    case .descriptor(let number): "fd:\(number)"
    case .ssh(let user, let host, let port, let path):
      "ssh://\(user.map { $0 + "@" } ?? "")\(host.contains(":") ? "[\(host)]" : host)"
        + "\(port.map { ":\($0)" } ?? "")\(path)"
    }
  }
}

/// One of the connections of a migration, as the driver sees it.
public enum StreamID: Int, Hashable, Sendable, CaseIterable {
  case sourceMonitor, targetMonitor
  /// The source's second monitor, for commands out of band.
  case sourceOutOfBand

  /// The QEMU at its other end.
  public var side: Side {
    switch self {
    case .sourceMonitor, .sourceOutOfBand: .source
    case .targetMonitor: .target
    }
  }
}

/// Where a stream leads.
public enum Endpoint: Hashable, Sendable {
  case unix(path: String)
  /// A numeric address, or a name that the driver resolved before the start.
  case tcp(host: String, port: UInt16)
  /// An inherited descriptor; it can be opened once.
  case descriptor(Int32)
  /// A unix socket of another host, reached by ssh. An empty host is the one that the driver's ssh
  /// command names.
  case ssh(user: String?, host: String, port: UInt16?, path: String)
}

/// Why a stream could not be opened. The session tries again where that can help.
public enum OpenFailure: Error, Hashable, Sendable {
  /// Nobody listens (ECONNREFUSED).
  case refused
  /// The socket's file is not there (ENOENT).
  case missing
  /// The listener's queue is full (EAGAIN): others wait for this monitor too.
  case queueFull
  /// Permission denied, or anything else; `text` is for a person.
  case other(text: String)
}

/// A process that the kernel names as a stream's peer, when it is a QEMU of this machine.
public struct PeerProcess: Hashable, Sendable {
  public var pid: Int32
  /// Field 22 of `/proc/PID/stat`: tells a process from a later one of the same number.
  public var startTime: UInt64

  public init(pid: Int32, startTime: UInt64) {
    self.pid = pid
    self.startTime = startTime
  }
}

/// What the host program asks of a running migration.
public enum HostRequest: Hashable, Sendable {
  case start
  case cancel
  case handedOver(HandOverResult)
  case handedBack
  case fenced(Side)
  case downtimeLimit(milliseconds: Int64)
}

/// What a driver interprets: inputs in, effects out, and the instant to wake it at.
///
/// After every input carry out the effects in order, then sleep until a stream is readable or
/// `nextDeadline`; spurious wake-ups change nothing.
public protocol DrivenSession {
  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  var nextDeadline: MonotonicInstant? { get }

  /// Takes one input and appends what is to be done about it, in order.
  mutating func handle(
    _ input: SessionInput, at now: MonotonicInstant, effects: inout [SessionEffect])

  /// Takes bytes that arrived on a stream, in pieces of any size.
  mutating func received(
    _ bytes: UnsafeRawBufferPointer, on stream: StreamID, at now: MonotonicInstant,
    effects: inout [SessionEffect])
}

/// Something that happened outside; all in the past tense.
public enum SessionInput: Hashable, Sendable {
  case requested(HostRequest)
  /// The stream is connected. `peer` is nil unless the peer is proven to be a QEMU of this machine.
  case streamOpened(StreamID, peer: PeerProcess?)
  case streamUnavailable(StreamID, OpenFailure)
  /// End of file, or an error that ends the stream.
  ///
  /// `withProcess`: everything was read that a process of this machine has sent, and that was already
  /// ending then. False where that is not known, and where the driver gave the stream up.
  case streamEnded(StreamID, withProcess: Bool)
  /// The bytes of `persist` are durable.
  case recordStored
  /// They are not; `text` says why.
  case recordNotStored(text: String)
  /// So many clients wait at the stream's listener beside ours; nil: nobody can tell.
  case clientsCounted(StreamID, Int?)
  /// The process that `streamOpened` named has exited; the kernel says so.
  case processExited(StreamID)
  /// A deadline came, or nothing at all: spurious ticks change nothing.
  case timePassed
}

/// Something that the driver must do, at once and in order.
public enum SessionEffect: Hashable, Sendable {
  /// Connect, without waiting; answer with `streamOpened` or `streamUnavailable`.
  case open(StreamID, Endpoint)
  /// Close, if open; nothing more is to be heard from it, `processExited` excepted.
  case close(StreamID)
  /// Send all of these bytes, in one write where the socket takes them.
  case write(StreamID, [UInt8])
  /// Replace the journal with these bytes, durably; answer with `recordStored` or `recordNotStored`,
  /// except after `finished`.
  case persist([UInt8])
  /// Find out how many clients wait at this stream's listener; answer with `clientsCounted`.
  case countWaiting(StreamID, Endpoint)
  case report(SessionReport)
}

/// Something that the host program may want to know.
public enum SessionReport: Hashable, Sendable {
  case phaseChanged(MigrationPhase)
  case progressed
  case handOverWanted
  case warning(String)
  case log(String)
  /// The last one; no effect follows it but `close`.
  case finished
}

/// Where one migration's monitors are, beside what the engine wants to know.
public struct SessionConfiguration: Sendable {
  public var options: MigrationOptions
  public var sourceMonitor: Endpoint
  public var targetMonitor: Endpoint
  public var sourceOutOfBand: Endpoint?
  /// The driver's monotonic clock minus this machine's wall clock, microseconds; nil if not known.
  /// The ledger uses it where both QEMUs run on this machine.
  public var clockOffsetMicroseconds: Int64?
  /// Which machine, and which boot of it, the driver's process numbers belong to; nil if not known.
  public var machine: String?

  func monitor(of side: Side) -> Endpoint { side == .source ? sourceMonitor : targetMonitor }

  public init(options: MigrationOptions, sourceMonitor: Endpoint, targetMonitor: Endpoint) {
    self.options = options
    self.sourceMonitor = sourceMonitor
    self.targetMonitor = targetMonitor
  }
}
