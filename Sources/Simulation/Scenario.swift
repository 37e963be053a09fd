import MigrationEngine
import QMP

/// One world as it begins, and what is going to happen in it that the session does not decide.
public struct Scenario: Sendable {
  public enum GuestAtStart: Hashable, Sendable { case running, paused }

  /// How the host program answers when it is asked to move ownership.
  public struct HostPlan: Sendable {
    public var delay = Span.milliseconds(20)
    public var result = HandOverResult.done
    /// With `external`: it says that it takes over from here, and resumes the target later.
    public var takesOverAtOnce = false
  }

  /// Other programs that use the source's monitor.
  public struct OthersPlan: Sendable {
    public var count = 0
    /// From one question of each to its next.
    public var interval = Span.seconds(1)
    /// The first that is served while RAM travels stays for so long, once.
    public var keepsFor = Span.zero
    /// Whether the kernel says how many stand in the queue.
    public var canBeCounted = true
  }

  public var source = QEMUConfiguration()
  public var target = QEMUConfiguration()
  public var options = MigrationOptions()
  public var host = HostPlan()
  public var others = OthersPlan()
  public var guestAtStart = GuestAtStart.running
  /// Whether the kernel can tell the session who is behind a monitor.
  public var isLocal = true
  /// Whether the session has a second monitor of the source, for commands out of band.
  public var hasOutOfBandMonitor = false
  /// What the host program does before it asks for the migration.
  public var ordersBeforeStart:
    [(side: Side, command: String, arguments: JSONObject, after: Span)] = []
  public var startsAfter = Span.milliseconds(1)
  public var sourceDelay = Span.microseconds(30)
  public var targetDelay = Span.microseconds(30)
  public var migrationDelay = Span.microseconds(30)
  public var migrationBytesPerSecond: UInt64 = 1 << 30
  /// Most that one piece of a monitor's bytes is later than the connection's delay.
  public var jitter = Span.microseconds(20)
  /// Whether bytes arrive in pieces that have nothing to do with the messages.
  public var isChopped = false
  public var disks: [(sectors: Int, hasLock: Bool)] = []
  /// The disk of the journal is full.
  public var journalFails = false
  /// From a crash of the engine to its recovery.
  public var recoversAfter = Span.seconds(1)
  /// Whether whoever recovers says where the cluster believes the guest to be.
  public var operatorKnowsCluster = true
  public var faults: [Fault] = []
  /// No fault strikes after it, and what is broken is repaired.
  public var healsAt = Span.seconds(60)
  /// The session must have ended by then.
  public var mustEndBy = Span.seconds(1200)

  var hasFaults: Bool { !faults.isEmpty }

  /// Whether it may depend on milliseconds how it ends, even where nothing is in the way.
  var endsByTheClock: Bool {
    options.transferDeadline != nil || options.storage.syncDeadline != nil || others.count > 0
  }

  public static let migrationAddress = "unix:/simulated.migration"

  /// A plain migration between two QEMUs of one release.
  public init(release: SimulatedRelease = .qemu72) {
    source.release = release
    target.release = release
    target.incoming = .listening(address: Self.migrationAddress)
    target.startsPaused = true
    options.uri = Self.migrationAddress
    options.handOver = .none
    options.sourceEnd = .keep
  }
}

extension Scenario {
  /// The world of a seed.
  public init(seed: UInt64) {
    var random = RandomSource(seed: seed)
    self.init(release: random.chance(1, in: 2) ? .qemu72 : .qemu100)
    drawMachines(&random)
    drawOptions(&random)
    drawNetwork(&random)
    drawDisks(&random)
    drawHost(&random)
    drawFaults(&random)
    drawOthers(&random)
  }

  private mutating func drawMachines(_ random: inout RandomSource) {
    // An upgrade on the way: the machine type stays.
    if random.chance(1, in: 6) { target.release = .qemu100 }
    if random.chance(1, in: 3) { target.incoming = .deferred }
    // The session must not depend on it.
    target.startsPaused = random.chance(3, in: 4)
    if random.chance(1, in: 5) { guestAtStart = .paused }
    source.survivesShutdown = random.chance(1, in: 2)
    target.survivesShutdown = source.survivesShutdown
    source.pausesOnPanic = random.chance(1, in: 2)
    target.pausesOnPanic = source.pausesOnPanic
    if random.chance(1, in: 12) { source.devices.append("rng") }
    if random.chance(1, in: 40) { target.machineType = "pc-q35-7.2-machine" }
    if random.chance(1, in: 40) { target.memoryBytes *= 2 }
    if random.chance(1, in: 40) { source.migrationBlockers = ["a device that cannot migrate"] }
    for side in Side.allCases {
      var timing = QEMUTiming()
      timing.command = .microseconds(random.number(in: 50...2_000))
      timing.commandWhileStreaming = .milliseconds(random.number(in: 0...350))
      timing.drain = .microseconds(random.number(in: 20...20_000))
      timing.load = .microseconds(random.number(in: 300...200_000))
      timing.afterStatus = .microseconds(random.number(in: 1...3_000))
      timing.accept = .microseconds(random.number(in: 10...2_000))
      timing.exit = .microseconds(random.number(in: 10...100_000))
      timing.usedMemoryBytes = UInt64(random.number(in: (1 << 16)...(64 << 20)))
      timing.dirtyBytesPerSecond = UInt64(random.number(in: 0...(32 << 20)))
      timing.stateBytes = UInt64(random.number(in: 1024...(1 << 20)))
      // Two hosts do not agree on the time.
      let wall = 1_700_000_000_000_000 + random.number(in: -5_000_000...5_000_000)
      if side == .source {
        source.timing = timing
        source.wallClockMicroseconds = wall
      } else {
        target.timing = timing
        target.wallClockMicroseconds = wall
      }
    }
  }

  private mutating func drawOptions(_ random: inout RandomSource) {
    options.handOver = random.pick(HandOverMode.allCases) ?? .none
    options.sourceEnd =
      options.handOver == .external ? .keep : random.pick(SourceEnd.allCases) ?? .keep
    if random.chance(1, in: 3) {
      options.downtimeLimitMilliseconds = random.number(in: 1...2_000)
    }
    if random.chance(1, in: 3) {
      options.highestDowntimeLimitMilliseconds = random.pick([0, 1_000, 2_000_000]) ?? 0
    }
    if random.chance(1, in: 3) {
      options.bandwidthBytesPerSecond = UInt64(random.number(in: (1 << 20)...(1 << 30)))
    }
    if random.chance(1, in: 4) { options.capabilities = [("xbzrle", true)] }
    if random.chance(1, in: 4) { options.parameters = [("announce-rounds", .integer(3))] }
    if random.chance(1, in: 5) {
      options.transferDeadline = .milliseconds(random.number(in: 1...20_000))
    }
    if random.chance(1, in: 30) { options.checkOnly = true }
    options.isJournaled = random.chance(1, in: 3)
    journalFails = random.chance(1, in: 20)
    recoversAfter = .microseconds(random.pick([1_000, 300_000, 20_000_000]) ?? 1_000)
    operatorKnowsCluster = random.chance(2, in: 3)
  }

  private mutating func drawNetwork(_ random: inout RandomSource) {
    isLocal = random.chance(1, in: 2)
    let most: Int64 = random.pick([50, 1_000, 30_000, 200_000]) ?? 50
    sourceDelay = .microseconds(random.number(in: 5...most))
    targetDelay = .microseconds(random.number(in: 5...most))
    migrationDelay = .microseconds(random.number(in: 5...most))
    jitter = .microseconds(random.number(in: 0...most))
    isChopped = random.chance(1, in: 4)
    migrationBytesPerSecond = UInt64(random.number(in: (8 << 20)...(4 << 30)))
  }

  private mutating func drawDisks(_ random: inout RandomSource) {
    let count = random.below(3)
    if random.chance(1, in: 2) {
      shareDisks(Int(count), hasLock: random.chance(1, in: 2))
      return
    }
    hasOutOfBandMonitor = random.chance(1, in: 2)
    let isTakenOver = random.chance(1, in: 3)
    mirrorDisks(
      Int(count), takenOver: isTakenOver, serverRuns: isTakenOver || random.chance(1, in: 2),
      inWriteBlockingMode: random.chance(2, in: 3))
    options.storage.allowsFastOrder = random.chance(2, in: 3)
    if random.chance(1, in: 3) {
      options.storage.syncDeadline = .milliseconds(random.number(in: 1...5_000))
    }
    options.storage.policy = random.chance(1, in: 2) ? .fail : .wait
    options.storage.yankLimit = .milliseconds(random.number(in: 100...3_000))
    options.storage.drainLimit = .milliseconds(random.number(in: 200...6_000))
  }

  private mutating func drawHost(_ random: inout RandomSource) {
    host.delay = .microseconds(random.pick([100, 5_000, 300_000, 20_000_000]) ?? 100)
    host.takesOverAtOnce = random.chance(1, in: 2)
    if random.chance(1, in: 8) { host.result = .failed }
    if random.chance(1, in: 8) { host.result = .unknown }
  }

  /// Other programs at the source's only monitor, and a transfer that lasts.
  private mutating func drawOthers(_ random: inout RandomSource) {
    guard random.chance(1, in: 10) else { return }
    options.sourceMonitorIsShared = true
    others.count = Int(random.number(in: 1...4))
    others.interval = .milliseconds(random.number(in: 100...2_000))
    others.canBeCounted = random.chance(3, in: 4)
    if random.chance(1, in: 4) {
      others.keepsFor = .milliseconds(random.pick([300, 8_000, 90_000]) ?? 300)
    }
    // However often it is slowed down for others, it ends some time.
    let wanted = options.bandwidthBytesPerSecond
    let rate = min(migrationBytesPerSecond, wanted == 0 ? UInt64.max : wanted)
    let used = min(UInt64(random.number(in: 16...1024)) << 20, rate * 8)
    source.memoryBytes = 2 << 30
    target.memoryBytes = target.memoryBytes == 64 << 20 ? 2 << 30 : 4 << 30
    source.timing.usedMemoryBytes = used
    target.timing.usedMemoryBytes = used
    // QEMU looks at its bandwidth each 100 ms, whatever the link takes in that time.
    source.timing.highestBandwidth = min(1 << 30, migrationBytesPerSecond)
  }

  /// Every seed has kinds of faults of its own, many of few rather than few of many.
  private mutating func drawFaults(_ random: inout RandomSource) {
    guard !random.chance(1, in: 10) else { return }
    let enabled = random.pick([1, 1, 2, 2, 3, 5, 8]) ?? 1
    for _ in 0..<enabled {
      guard let kind = random.pick(FaultKind.allCases) else { continue }
      let repeats = random.chance(1, in: 5) ? 3 : 1
      if kind == .hostHandsBack, random.chance(1, in: 2) { drawReasonToHandBack(&random) }
      for _ in 0..<repeats {
        // A host program takes ownership back where it is told that it may.
        let offset = Span.milliseconds(random.number(in: 0...5_000))
        let trigger =
          kind == .hostHandsBack ? .phase(.undoing, offset) : Self.drawTrigger(&random)
        faults.append(
          Fault(
            kind, trigger,
            length: .microseconds(random.pick([500, 50_000, 3_000_000, 70_000_000]) ?? 500),
            bytes: Int(random.below(200))))
      }
    }
  }

  /// The target ends after ownership has moved to it.
  private mutating func drawReasonToHandBack(_ random: inout RandomSource) {
    options.handOver = .beforeResume
    host.result = .done
    faults.append(
      Fault(.targetKilled, .phase(.activating, .microseconds(random.number(in: 0...20_000)))))
  }

  private static func drawTrigger(_ random: inout RandomSource) -> Fault.Trigger {
    let most: Int64 = random.pick([100, 2_000, 30_000, 1_000_000]) ?? 100
    let offset = Span.microseconds(random.number(in: 0...most))
    switch random.below(4) {
    case 0:
      let longest: Int64 = random.pick([1_000, 50_000, 2_000_000, 20_000_000]) ?? 1_000
      return .time(.microseconds(random.number(in: 0...longest)))
    case 1:
      let statuses = [
        "setup", "active", "device", "completed", "failed", "cancelling", "cancelled",
      ]
      return .status(random.pick(statuses) ?? "active", offset)
    default:
      return .phase(random.pick(MigrationPhase.allCases) ?? .transferring, offset)
    }
  }
}
