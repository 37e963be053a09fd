/// One of the two QEMU processes of a migration.
public enum Side: Hashable, Sendable, CaseIterable {
  case source
  case target

  public var other: Side { self == .source ? .target : .source }
}

extension Side: CustomStringConvertible {
  public var description: String { self == .source ? "source" : "target" }
}

/// Who may run the guest now.
public enum Owner: Hashable, Sendable, CaseIterable {
  case source
  case target
  /// Both stand; the next step says which one may be resumed.
  case nobody
  /// A reply was lost: nothing may be resumed before that is settled.
  case unknown
}

/// What the guest itself does, apart from who owns it.
public enum GuestCondition: Hashable, Sendable, CaseIterable {
  case unknown
  case running
  case paused
  case off
}

/// When the host program moves ownership in its own cluster.
public enum HandOverMode: Hashable, Sendable, CaseIterable {
  /// After the load is proven, before the target runs.
  case beforeResume
  /// After the target runs; fastest.
  case afterResume
  /// There is no cluster.
  case none
  /// The host program resumes the target itself.
  case external
}

/// What the host program says of its hand-over.
public enum HandOverResult: Hashable, Sendable, CaseIterable {
  case done
  /// Ownership is certainly still with the source.
  case failed
  case unknown
}

/// What becomes of the source's QEMU once the target runs.
public enum SourceEnd: Hashable, Sendable, CaseIterable {
  case quit
  case keep
}

/// QEMU's `RunState`, as `query-status` reports it.
public enum RunState: Hashable, Sendable {
  case running, paused, suspended, inmigrate, prelaunch, shutdown
  case finishMigrate, postmigrate, ioError, guestPanicked, internalError
  case saveVM, restoreVM, watchdog, debug, colo
  /// A state that this version does not know; it decides nothing (I7).
  case unrecognised(String)

  public init(qemuName name: String) {
    self = Self.names.first { $0.name == name }?.state ?? .unrecognised(name)
  }

  /// QEMU's own word.
  public var qemuName: String {
    if case .unrecognised(let name) = self { return name }
    return Self.names.first { $0.state == self }?.name ?? "?"
  }

  /// What a guest does in it; nil where the state does not tell.
  public var guest: GuestCondition? {
    switch self {
    case .running: .running
    case .suspended, .paused, .ioError, .guestPanicked, .internalError, .watchdog, .finishMigrate,
      .postmigrate:
      .paused
    case .shutdown: .off
    case .inmigrate, .prelaunch, .saveVM, .restoreVM, .debug, .colo, .unrecognised: nil
    }
  }

  private static let names: [(state: RunState, name: String)] = [
    (.running, "running"), (.paused, "paused"), (.suspended, "suspended"),
    (.inmigrate, "inmigrate"), (.prelaunch, "prelaunch"), (.shutdown, "shutdown"),
    (.finishMigrate, "finish-migrate"), (.postmigrate, "postmigrate"), (.ioError, "io-error"),
    (.guestPanicked, "guest-panicked"), (.internalError, "internal-error"),
    (.saveVM, "save-vm"), (.restoreVM, "restore-vm"), (.watchdog, "watchdog"), (.debug, "debug"),
    (.colo, "colo"),
  ]
}

/// QEMU's `MigrationStatus`, of the `MIGRATION` event and of `query-migrate`.
public enum MigrationStatus: Hashable, Sendable {
  case none, setup, waitUnplug, active, preSwitchover, device
  case completed, failed, cancelling, cancelled
  /// A status that this version does not know: undecided, never an error (I7).
  case unrecognised(String)

  public init(qemuName name: String) {
    self = Self.names.first { $0.name == name }?.status ?? .unrecognised(name)
  }

  /// QEMU's own word.
  public var qemuName: String {
    if case .unrecognised(let name) = self { return name }
    return Self.names.first { $0.status == self }?.name ?? "?"
  }

  /// Whether QEMU will not change it any more without a new command.
  public var isFinal: Bool {
    switch self {
    case .completed, .failed, .cancelled: true
    default: false
    }
  }

  private static let names: [(status: MigrationStatus, name: String)] = [
    (.none, "none"), (.setup, "setup"), (.waitUnplug, "wait-unplug"), (.active, "active"),
    (.preSwitchover, "pre-switchover"), (.device, "device"), (.completed, "completed"),
    (.failed, "failed"), (.cancelling, "cancelling"), (.cancelled, "cancelled"),
  ]
}

/// A QEMU release, from the monitor's greeting.
public struct QEMURelease: Comparable, Hashable, Sendable {
  public var major: Int
  public var minor: Int
  public var micro: Int

  public init(_ major: Int, _ minor: Int, _ micro: Int = 0) {
    self.major = major
    self.minor = minor
    self.micro = micro
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.major, left.minor, left.micro) < (right.major, right.minor, right.micro)
  }
}

extension QEMURelease: CustomStringConvertible {
  public var description: String { "\(major).\(minor).\(micro)" }
}
