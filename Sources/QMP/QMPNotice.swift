/// What a `QMPSession` tells its owner, in the order in which it happened.
public enum QMPNotice: Sendable, Equatable {
  /// Capabilities are negotiated; commands held back until now are in the output.
  case ready(QMPGreeting, outOfBand: Bool)
  /// The command succeeded, with this result.
  case reply(QMPCommandID, JSONValue)
  /// QEMU answered the command with an error.
  case commandFailed(QMPCommandID, QMPCommandError)
  /// No reply came by the command's deadline: its outcome is unknown. A late reply is counted and
  /// dropped. A command still held back then is never sent.
  case timedOut(QMPCommandID)
  /// The stream ended with the command in flight: its outcome is unknown.
  case lost(QMPCommandID)
  case event(QMPEvent)
  /// The stream does not carry QMP (the text says why). The session has failed, takes no more
  /// bytes, and its owner closes the stream.
  case protocolViolated(String)
}

/// What QEMU says first on a new connection.
public struct QMPGreeting: Sendable, Equatable {
  public var version: QMPVersion
  /// Whether the monitor can run commands out of band.
  public var offersOutOfBand: Bool

  public init(version: QMPVersion, offersOutOfBand: Bool) {
    self.version = version
    self.offersOutOfBand = offersOutOfBand
  }
}

/// A QEMU version; compared by its three numbers, whatever the package is called.
public struct QMPVersion: Comparable, Sendable {
  public var major: Int64
  public var minor: Int64
  public var micro: Int64
  /// The distribution's own name of its build; may be empty.
  public var package: String

  public init(major: Int64, minor: Int64, micro: Int64, package: String = "") {
    self.major = major
    self.minor = minor
    self.micro = micro
    self.package = package
  }

  public static func == (left: Self, right: Self) -> Bool { left.numbers == right.numbers }
  public static func < (left: Self, right: Self) -> Bool { left.numbers < right.numbers }

  private var numbers: (Int64, Int64, Int64) { (major, minor, micro) }
}

/// Something that QEMU reports by itself.
public struct QMPEvent: Sendable, Equatable {
  public var name: String
  /// The event's own data; `.null` if it has none.
  public var data: JSONValue
  /// QEMU's wall clock when it raised the event, in microseconds since 1970; nil if QEMU could not
  /// read it (it then sends −1).
  public var timestampMicroseconds: Int64?

  public init(name: String, data: JSONValue = .null, timestampMicroseconds: Int64? = nil) {
    self.name = name
    self.data = data
    self.timestampMicroseconds = timestampMicroseconds
  }
}

/// An error as QEMU words it.
public struct QMPCommandError: Error, Sendable, Equatable {
  /// QEMU's `class`, for example `GenericError` or `CommandNotFound`; empty if QEMU gave none.
  public var errorClass: String
  /// QEMU's `desc`, a sentence for people; empty if QEMU gave none.
  public var text: String

  public init(errorClass: String, text: String) {
    self.errorClass = errorClass
    self.text = text
  }
}

/// Which command of a session: the `id` on the wire, never given twice.
public struct QMPCommandID: Hashable, Sendable {
  public var rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// Why a session took no command.
public enum QMPSessionError: Error, Sendable, Equatable {
  /// `maximumPendingCommands` commands wait for replies already.
  case tooManyPending
  /// The command would make the output longer than `maximumOutputBytes`.
  case tooMuchOutput
  /// The session negotiated no out-of-band execution.
  case outOfBandUnavailable
  /// The stream ended or the session failed.
  case notUsable
}
