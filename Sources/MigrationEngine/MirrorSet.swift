/// A block job, as `query-block-jobs` reports it.
public struct BlockJobReport: Hashable, Sendable {
  public var id: String
  public var isReady: Bool
  public var length: UInt64
  public var offset: UInt64
  /// QEMU's `JobStatus`.
  public var status: String
  /// From 8.2 on.
  public var isActivelySynced: Bool?
  public var error: String?

  public init(
    id: String, isReady: Bool, length: UInt64, offset: UInt64, status: String,
    isActivelySynced: Bool? = nil, error: String? = nil
  ) {
    self.id = id
    self.isReady = isReady
    self.length = length
    self.offset = offset
    self.status = status
    self.isActivelySynced = isActivelySynced
    self.error = error
  }
}

/// The mirrors of a migration: what each is known to do, and what follows from all of them (I3).
struct MirrorSet: Sendable {
  enum State: Hashable, Sendable {
    /// Ours, not started.
    case absent
    case running
    /// All is copied; every write reaches both disks.
    case ready
    /// It ended in sync: the target's disk is what the source's was at that instant.
    case endedInSync
    case failed(String)
    /// No longer a block job of the source.
    case gone
  }

  struct Mirror: Sendable {
    var disk: DiskOptions
    var index: Int
    var state: State
    /// Every write waits for the target's disk too.
    var isWriteBlocking: Bool
    var nodeIsAdded = false
    /// It sleeps now and then to keep to a limit.
    var isLimited: Bool
    /// The target's export is there because we asked for it.
    var exportIsAdded = false
    /// A concluded job waits for its dismissal.
    var isConcluded = false
    var report: BlockJobReport?
    /// The first of all looks in a row at which the same write of the guest was on its way.
    var stuckSince: MonotonicInstant?
    /// The first of all looks in a row at which it copied in the background, with little left and not ready.
    var chasingSince: MonotonicInstant?

    /// The block job's id on the source.
    var jobID: String {
      if case .takenOver(let jobID, _, _) = disk.mirror { return jobID }
      return MirrorNames.job(index)
    }
    /// The node of the NBD client on the source; nil for one of the host program that it did not name.
    var node: String? {
      if case .takenOver(_, _, let node) = disk.mirror { return node }
      return MirrorNames.node(index)
    }
    var isOurs: Bool { disk.mirror == .started }
    var isLive: Bool { state == .running || state == .ready }
  }

  var mirrors: [Mirror]

  init(_ disks: [DiskOptions]) {
    mirrors = disks.enumerated().map { index, disk in
      var isWriteBlocking = true
      var state = State.absent
      if case .takenOver(_, let blocking, _) = disk.mirror {
        isWriteBlocking = blocking
        state = .running
      }
      return Mirror(
        disk: disk, index: index, state: state, isWriteBlocking: isWriteBlocking,
        isLimited: disk.bandwidthBytesPerSecond > 0)
    }
  }

  var isEmpty: Bool { mirrors.isEmpty }
  var areAllReady: Bool { mirrors.allSatisfy { $0.state == .ready } }
  var haveAllEndedInSync: Bool { mirrors.allSatisfy { $0.state == .endedInSync } }
  /// No mirror of the source writes to the target any more, nor waits for it.
  var haveAllEnded: Bool { mirrors.allSatisfy { !$0.isLive && !$0.isConcluded } }

  /// Mirrors that ended in sync are as they should be from here on: we told them to end.
  ///
  /// One that ends before is as bad as a failed one: the guest's later writes are on the source alone (I3).
  var areToldToEnd = false

  /// The exports on the target that we asked for, as long as its NBD server runs.
  var exportsOnTarget: [String] {
    mirrors.filter(\.exportIsAdded).map { MirrorNames.export($0.index) }
  }

  mutating func serverStopped() {
    for position in mirrors.indices { mirrors[position].exportIsAdded = false }
  }

  /// The first mirror that failed, vanished or ended too early, in words.
  var failure: String? {
    for mirror in mirrors {
      switch mirror.state {
      case .failed(let text): return "mirror of '\(mirror.disk.device)' failed: \(text)"
      case .gone: return "mirror of '\(mirror.disk.device)' vanished: somebody else ended it"
      case .endedInSync where !areToldToEnd:
        return "mirror of '\(mirror.disk.device)' was ended by somebody else before the switchover"
      case .absent, .running, .ready, .endedInSync: continue
      }
    }
    return nil
  }

  /// Whether every mirror is in sync for good, once the guest stands and QEMU has drained: the
  /// precondition of the *fast* order. QEMU says `actively-synced` from 8.2 on.
  func areInSync(reportsActiveSync: Bool) -> Bool {
    mirrors.allSatisfy { mirror in
      guard mirror.state == .ready, mirror.isWriteBlocking, let report = mirror.report else {
        return false
      }
      return report.isReady && report.status == "ready" && report.length == report.offset
        && (!reportsActiveSync || report.isActivelySynced == true)
    }
  }

  /// How long a write of the guest has been on its way to the target, as far as two looks can tell: a
  /// mirror in write-blocking mode that is ready counts it as not yet copied. One NBD server has them all,
  /// so one connection that stalls speaks for the others.
  func stall(at now: MonotonicInstant) -> Span? {
    mirrors.compactMap(\.stuckSince).min().map { now - $0 }
  }

  /// When `query-block-jobs` was answered last.
  private(set) var lastLook: MonotonicInstant?

  /// Takes a whole `query-block-jobs`: what is not in it has ended.
  mutating func reported(_ reports: [BlockJobReport], at now: MonotonicInstant) {
    lastLook = now
    for position in mirrors.indices {
      let report = reports.first { $0.id == mirrors[position].jobID }
      noteStall(position, report, now)
      noteChase(position, report, now)
      mirrors[position].report = report
      guard let report else {
        if mirrors[position].isLive { mirrors[position].state = .gone }
        mirrors[position].isConcluded = false
        continue
      }
      if report.status == "concluded" {
        mirrors[position].isConcluded = true
        if let error = report.error {
          mirrors[position].state = .failed(error)
        } else if mirrors[position].isLive, report.length == report.offset {
          mirrors[position].state = .endedInSync
        }
      } else if mirrors[position].isLive {
        mirrors[position].state = report.isReady ? .ready : .running
      }
    }
  }

  private mutating func noteStall(
    _ position: Int, _ report: BlockJobReport?, _ now: MonotonicInstant
  ) {
    guard let report, report.isReady, mirrors[position].isWriteBlocking,
      let last = mirrors[position].report, last.isReady,
      report.offset < report.length, report.offset == last.offset
    else {
      mirrors[position].stuckSince = nil
      return
    }
    if mirrors[position].stuckSince == nil { mirrors[position].stuckSince = now }
  }

  /// So few bytes are all that a guest at work has changed meanwhile.
  private static let littleLeft: UInt64 = 16 << 20

  private mutating func noteChase(
    _ position: Int, _ report: BlockJobReport?, _ now: MonotonicInstant
  ) {
    guard let report, report.status == "running", !report.isReady, report.offset > 0,
      !mirrors[position].isWriteBlocking,
      report.length - min(report.offset, report.length) <= Self.littleLeft
    else {
      mirrors[position].chasingSince = nil
      return
    }
    if mirrors[position].chasingSince == nil { mirrors[position].chasingSince = now }
  }

  /// The mirrors whose guest has kept just ahead of them for so long, by more looks than one.
  func chasing(for span: Span, at now: MonotonicInstant) -> [Mirror] {
    mirrors.filter { mirror in mirror.chasingSince.map { now >= $0 + span } ?? false }
  }

  mutating func becameReady(_ jobID: String) {
    change(jobID) { if $0.state == .running { $0.state = .ready } }
  }

  /// `BLOCK_JOB_COMPLETED`: in sync unless it carries an error.
  mutating func completed(_ jobID: String, error: String?) {
    change(jobID) { mirror in
      guard mirror.isLive else { return }
      mirror.state = error.map { .failed($0) } ?? .endedInSync
    }
  }

  /// `BLOCK_JOB_CANCELLED`: ended by force, the target's disk is not to be used.
  mutating func cancelled(_ jobID: String) {
    change(jobID) { if $0.isLive { $0.state = .failed("it was cancelled") } }
  }

  /// `JOB_STATUS_CHANGE`.
  mutating func statusChanged(_ jobID: String, to status: String) {
    change(jobID) { mirror in
      if status == "concluded" { mirror.isConcluded = true }
      if status == "null" {
        mirror.isConcluded = false
        mirror.report = nil
      }
    }
  }

  mutating func change(_ jobID: String, _ body: (inout Mirror) -> Void) {
    guard let position = mirrors.firstIndex(where: { $0.jobID == jobID }) else { return }
    body(&mirrors[position])
  }
}

/// What our own mirrors are called on both sides.
public enum MirrorNames {
  /// The block job on the source.
  public static func job(_ index: Int) -> String { "swo-mirror\(index)" }
  /// The NBD client's node on the source.
  public static func node(_ index: Int) -> String { "swo-nbd\(index)" }
  /// The export on the target.
  public static func export(_ index: Int) -> String { "swo-export\(index)" }
}
