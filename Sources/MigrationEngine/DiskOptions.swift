/// Where an NBD server listens, as QEMU writes a socket address.
public enum NBDAddress: Hashable, Sendable {
  case unix(path: String)
  case inet(host: String, port: String)
}

/// One local disk that moves with the guest.
public struct DiskOptions: Hashable, Sendable {
  /// How its mirror comes to be.
  public enum Mirror: Hashable, Sendable {
    /// We start it: `blockdev-mirror`, or `drive-mirror` where QEMU refuses the first.
    case started
    /// The host program has started it; `copiesInWriteBlockingMode` is its word on the copy mode, and
    /// `node` the target's node on the source, where it is to be yanked if it stalls.
    case takenOver(jobID: String, copiesInWriteBlockingMode: Bool, node: String?)
  }

  /// The source's node or drive, as QMP's `device` argument.
  public var device: String
  public var mirror: Mirror
  /// The export's name on the target's NBD server.
  public var exportName: String
  /// The target's node behind the export, where we are to add the export; nil: it is there.
  public var targetNode: String?
  /// Bytes a second; 0: no limit.
  public var bandwidthBytesPerSecond: UInt64 = 0

  public init(
    device: String, mirror: Mirror = .started, exportName: String, targetNode: String? = nil
  ) {
    self.device = device
    self.mirror = mirror
    self.exportName = exportName
    self.targetNode = targetNode
  }
}

/// What to do about mirrors that do not get in sync by their deadline.
public enum MirrorPolicy: Hashable, Sendable, CaseIterable {
  /// The migration fails; the guest stays.
  case fail
  /// It is said, and waited on.
  case wait
  /// From now on each write of the guest waits until the target has it, so that the copy gets ahead. Before
  /// 8.2 it has been so from the start.
  case throttle
}

/// All local disks of a migration, and the way to the target's NBD server.
public struct StorageOptions: Hashable, Sendable {
  public var disks: [DiskOptions] = []
  /// Where the source reaches the target's NBD server.
  public var address: NBDAddress?
  /// Where the target is to listen; nil: its server runs already.
  public var listenAddress: NBDAddress?
  /// How long mirrors may take to get in sync; nil: no limit.
  public var syncDeadline: Span?
  public var policy = MirrorPolicy.fail
  /// How long the guest may stand at STOP before a stalled NBD connection is yanked, where there is an
  /// out-of-band monitor.
  public var yankLimit = Span.seconds(2)
  /// How long mirrors may take to end in `pre-switchover`, where the guest stands, before the switchover
  /// is called off.
  public var drainLimit = Span.seconds(5)
  /// Whether the order with one round trip less may be used (where QEMU's release is on the list).
  public var allowsFastOrder = true

  public init() {}

  /// Most disks that one migration moves.
  public static let maximumDisks = 64
}
