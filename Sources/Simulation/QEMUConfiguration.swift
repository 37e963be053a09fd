import MigrationEngine

/// The releases whose behaviour is simulated; each stands for what was measured on it.
public enum SimulatedRelease: String, CaseIterable, Sendable {
  case qemu72 = "7.2"
  case qemu100 = "10.0"

  var numbers: (major: Int64, minor: Int64, micro: Int64) {
    self == .qemu72 ? (7, 2, 22) : (10, 0, 2)
  }
}

/// How one simulated QEMU was started.
public struct QEMUConfiguration: Sendable {
  public enum Incoming: Hashable, Sendable {
    case none
    /// `-incoming defer`
    case deferred
    case listening(address: String)
  }

  public var release = SimulatedRelease.qemu72
  /// As `qom-get /machine type` tells it.
  public var machineType = "pc-i440fx-7.2-machine"
  public var memoryBytes: UInt64 = 64 << 20
  /// `-S`
  public var startsPaused = false
  public var incoming = Incoming.none
  public var monitors = 2
  /// `-no-shutdown`: a guest that powers off leaves its QEMU standing in `shutdown`.
  public var survivesShutdown = false
  /// `-action panic=pause`
  public var pausesOnPanic = false
  /// A state section of each travels; a target that lacks one cannot load.
  public var devices = ["cpu", "ram"]
  public var migrationBlockers: [String] = []
  /// Block nodes and the disk behind each.
  public var disks: [DiskAttachment] = []
  public var timing = QEMUTiming()
  /// Microseconds since 1970 at the origin of the simulated clock, as this host believes.
  public var wallClockMicroseconds: Int64 = 1_700_000_000_000_000

  public init() {}
}

/// One disk as QEMU has it.
public struct DiskAttachment: Hashable, Sendable {
  public var node: String
  /// Index into the world's storage.
  public var disk: Int

  public init(node: String, disk: Int) {
    self.node = node
    self.disk = disk
  }
}

/// How long things take in one simulated QEMU.
public struct QEMUTiming: Sendable {
  public var command = Span.microseconds(150)
  /// QMP input costs QEMU 4.5–7 µs a byte.
  public var commandByte = Span(nanoseconds: 6_000)
  /// Most that a command waits more while RAM streams in.
  public var commandWhileStreaming = Span.milliseconds(50)
  /// QEMU's own drain and flush of its disks at STOP.
  public var drain = Span.microseconds(100)
  /// From the last byte of the state to the end of the load.
  public var load = Span.milliseconds(1)
  /// Between a final status and what follows from it (`postmigrate`, RESUME).
  public var afterStatus = Span.microseconds(80)
  /// Until the listener is taken up again after a client has gone.
  public var accept = Span.microseconds(300)
  /// From the end of its sockets to the end of its process.
  public var exit = Span.milliseconds(5)
  /// Upper bound of QEMU's own bandwidth, bytes a second: a processor and a link are not infinite.
  public var highestBandwidth: UInt64 = 1 << 30
  /// What the guest dirties, bytes a second.
  public var dirtyBytesPerSecond: UInt64 = 1 << 20
  /// What of the RAM is not zero, and so travels.
  public var usedMemoryBytes: UInt64 = 8 << 20
  /// Bytes of device state.
  public var stateBytes: UInt64 = 64 << 10

  public init() {}
}
