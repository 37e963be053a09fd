import CSwitchover

/// Everything that one migration is asked for: the command line's arguments, checked.
struct MigrationPlan: Equatable {
  /// What changes how the memory travels; nil: as the library has it.
  struct Tuning: Equatable {
    /// 0: no limit.
    var bytesPerSecond: UInt64?
    var downtimeLimitMilliseconds: UInt32?
    /// 0: `downtimeLimitMilliseconds` is never raised.
    var highestDowntimeLimitMilliseconds: UInt32 = Self.highestDowntimeLimit
    var capabilities: [CapabilitySetting] = []
    var parameters: [ParameterSetting] = []
    var transferDeadlineMilliseconds: UInt64?

    /// The highest value of QEMU's `downtime-limit`, milliseconds.
    static let highestDowntimeLimit: UInt32 = 2_000_000
  }

  /// The local disks that move along.
  struct Storage: Equatable {
    /// How long storage may hold the guest up, milliseconds.
    static let limitMilliseconds: ClosedRange<UInt64> = 50...600_000

    var disks: [MirroredDisk] = []
    var takenOver: [TakenOverMirror] = []
    /// The source's way to the target's NBD server.
    var address: String?
    /// Where the target is to listen; nil: its server runs already.
    var listenAddress: String?
    /// nil: the mirrors may take as long as they like.
    var syncDeadlineMilliseconds: UInt64?
    var syncPolicy = SyncPolicy.fail
    var yankMilliseconds: UInt32 = 2000
    var drainMilliseconds: UInt32 = 5000
    var allowsFastOrder = true

    var isEmpty: Bool { disks.isEmpty && takenOver.isEmpty }
  }

  var name: String?
  /// The monitors, as addresses of the library.
  var source: String
  var target: String
  /// A second monitor of the source.
  var outOfBandMonitor: String?
  var uri: String
  var incomingURI: String?
  /// Other programs use the source's monitor too.
  var sourceMonitorIsShared = false
  var handOver = HandOverMode.none
  /// The shell command that moves ownership, where the mode has one.
  var handOverCommand: String?
  var sourceEnd = SourceEnd.quit
  var tuning = Tuning()
  var storage = Storage()
  var ssh = SSHPlan()
  /// The absolute path of the journal; nil: none.
  var journal: String?
}

/// A local disk that the library mirrors.
struct MirroredDisk: Equatable {
  /// The source's node or drive.
  var device: String
  /// The target's NBD export.
  var exportName: String
  /// The target's node that the export is to be made of; nil: the export is there.
  var targetNode: String?
  /// 0: no limit.
  var bytesPerSecond: UInt64 = 0
}

/// A local disk whose mirror somebody else has started.
struct TakenOverMirror: Equatable {
  /// The source's node or drive.
  var device: String
  var jobID: String
  /// Whether it was started with QEMU's copy mode of that name.
  var isWriteBlocking = false
  /// The NBD client's node on the source, if it is known.
  var node: String?
}

/// When ownership moves in the cluster.
enum HandOverMode: String, CaseIterable {
  case none
  case beforeResume = "before-resume"
  case afterResume = "after-resume"
  case external

  var libraryValue: swo_hand_over {
    switch self {
    case .none: .SWO_HAND_OVER_NONE
    case .beforeResume: .SWO_HAND_OVER_BEFORE_RESUME
    case .afterResume: .SWO_HAND_OVER_AFTER_RESUME
    case .external: .SWO_HAND_OVER_EXTERNAL
    }
  }
}

/// What to do about disks that are not in sync at their deadline.
enum SyncPolicy: String, CaseIterable {
  case fail
  case wait
  case throttle

  var libraryValue: swo_sync_policy {
    switch self {
    case .fail: .SWO_SYNC_FAIL
    case .wait: .SWO_SYNC_WAIT
    case .throttle: .SWO_SYNC_THROTTLE
    }
  }
}

/// What became of a hand-over.
enum HandOverResult: String, CaseIterable {
  case done
  case failed
  case unknown

  var libraryValue: swo_hand_over_result {
    switch self {
    case .done: .SWO_HAND_OVER_DONE
    case .failed: .SWO_HAND_OVER_FAILED
    case .unknown: .SWO_HAND_OVER_UNKNOWN
    }
  }
}

/// What becomes of the source's QEMU once the target runs.
enum SourceEnd: String, CaseIterable {
  case quit
  case keep

  var libraryValue: swo_source_end {
    self == .quit ? .SWO_SOURCE_QUIT : .SWO_SOURCE_KEEP
  }
}

/// A migration capability, as `name=on` or `name=off`.
struct CapabilitySetting: Equatable {
  var name: String
  var isOn: Bool
}

/// A migration parameter with its value as JSON text.
struct ParameterSetting: Equatable {
  var name: String
  var json: String
}
