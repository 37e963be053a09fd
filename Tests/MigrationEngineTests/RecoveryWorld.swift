@testable import MigrationEngine

/// A pair of QEMUs as somebody's death left it, a person who says only what is true, and the recovery
/// between them. Everything follows from a seed.
struct RecoveryWorld {
  enum SourceState: Hashable {
    case runs, pausedByOwner, transferring, preSwitchover, device, completed, dead
  }

  enum TargetState: Hashable {
    case waiting, loaded, runs, failed, dead
  }

  struct Violation: Error, CustomStringConvertible {
    var description: String
  }

  private var random: SplitMix
  private(set) var source = SourceState.runs
  private(set) var target = TargetState.waiting
  private var guestRan = true
  private var ownership = RecoverySituation.Cluster.source
  private let handOver: HandOverMode
  private let hasJournal: Bool
  private let sourceEnd: SourceEnd
  private var mirrorsAreLive = false
  private var nbdServerRuns = false
  /// `cont` reached the target while it was waiting.
  private var targetIsArmed = false
  private var stateIsOnItsWay = false
  private var targetHasRun = false
  private var sourceCapabilityIsChanged = false

  private var engine = RecoveryEngine(options: RecoveryOptions())
  private var now = MonotonicInstant(nanoseconds: 0)
  private var isConnected = (source: false, target: false)
  private var pending: [(side: Side, command: Command)] = []
  private var isDone = false
  private(set) var log: [String] = []
  private var faultsAreOver = false

  init(seed: UInt64) {
    var random = SplitMix(state: seed)
    handOver = HandOverMode.allCases[random.below(4)]
    hasJournal = random.below(4) != 0
    sourceEnd = random.below(2) == 0 ? .quit : .keep
    self.random = random
    live()
  }

  /// A migration up to the point at which its manager dies.
  private mutating func live() {
    guestRan = random.below(5) != 0
    mirrorsAreLive = random.below(2) == 0
    nbdServerRuns = mirrorsAreLive
    sourceCapabilityIsChanged = true
    source = guestRan ? .runs : .pausedByOwner
    let end = random.below(8)
    if end >= 1 { source = .transferring }
    if end >= 2, mirrorsAreLive { source = .preSwitchover }
    if end >= 3 { source = .device }
    if end >= 4 { complete() }
    let early = handOver == .none || handOver == .afterResume
    if end >= 5, !early { if random.below(2) == 0 { load() } }
    if end >= 5, handOver == .beforeResume || handOver == .external {
      if target == .loaded, random.below(2) == 0 { ownership = .target }
    }
    // Another tool's target, which was started without -S.
    if !hasJournal, random.below(3) == 0 { targetIsArmed = true }
    let isGranted = end >= 6 && guestRan && (early || ownership == .target)
    if isGranted {
      nbdServerRuns = false
      if target == .waiting { targetIsArmed = true }
      if target == .loaded { run(.target) }
    }
    if end == 7, target == .waiting, random.below(2) == 0 { load() }
    if target == .runs, handOver == .afterResume, random.below(2) == 0 { ownership = .target }
    log.append("\(handOver), journal \(hasJournal), left at: \(picture)")
  }

  private var picture: String { "source \(source), target \(target), ownership \(ownership)" }

  private mutating func complete() {
    source = .completed
    stateIsOnItsWay = true
  }

  private mutating func load() {
    guard target == .waiting, stateIsOnItsWay else { return }
    stateIsOnItsWay = false
    target = .loaded
    // A pause travels with the state.
    if targetIsArmed, guestRan { run(.target) }
  }

  private mutating func run(_ side: Side) {
    if side == .target {
      target = .runs
      targetHasRun = true
    } else {
      source = .runs
    }
  }

  // MARK: - Rounds of recovery

  /// Recovers until the pair is settled; a person helps in between.
  mutating func recover() throws(Violation) -> RecoveryConclusion {
    var words = RecoveryOptions()
    for round in 0..<12 {
      let conclusion = try attempt(words)
      log.append("round \(round): \(conclusion.rule), \(conclusion.action): \(picture)")
      try judge(conclusion)
      if conclusion.action != .ask { return conclusion }
      faultsAreOver = true
      help(conclusion, &words)
    }
    throw Violation(description: "a person was asked for ever")
  }

  /// Does what recovery asks for, and says what is true.
  private mutating func help(_ conclusion: RecoveryConclusion, _ words: inout RecoveryOptions) {
    for word in conclusion.words {
      switch word {
      case .sourceFenced where source != .runs:
        source = .dead
        words.source.isFenced = true
        return
      case .targetFenced where target != .runs:
        if target == .waiting || target == .loaded { target = .dead }
        words.target.isFenced = true
        return
      case .ownershipWithSource, .ownershipWithTarget:
        // Where the guest cannot go on at its owner, the configuration is moved.
        if target == .dead || target == .failed, !targetHasRun { ownership = .source }
        if source == .dead, target == .loaded { ownership = .target }
        if targetHasRun { ownership = .target }
        words.cluster = ownership
      case .guestRan, .guestStood: words.guestRan = guestRan
      case .targetNeverRan: if !targetHasRun { words.targetNeverRan = true }
      case .sourceFenced, .targetFenced, .again: break
      }
    }
    // Nothing is left but to end a target that never loads, or both, and to start afresh.
    if conclusion.words == [.again] || conclusion.words.isEmpty
      || (targetHasRun && target == .dead)
    {
      target = target == .runs ? .runs : .dead
      words.target.isFenced = true
      if targetHasRun || source == .dead { source = .dead }
      words.source.isFenced = source == .dead
      words.cluster = words.cluster ?? ownership
      if targetHasRun, target == .dead { words.cluster = .target }
      if !targetHasRun { words.targetNeverRan = true }
    }
  }

  private mutating func attempt(
    _ words: RecoveryOptions
  ) throws(Violation) -> RecoveryConclusion {
    var options = words
    options.source.hasMonitor = true
    options.target.hasMonitor = true
    options.source.isProvenDead = source == .dead && random.below(2) == 0
    options.target.isProvenDead = target == .dead && random.below(2) == 0
    if hasJournal {
      options.journal = RecoveryOptions.Journal(
        handOver: handOver, sourceEnd: sourceEnd, runState: guestRan ? .running : .paused,
        mirrors: [RecoveryOptions.Mirror(jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true)])
      options.source.capabilities = [CapabilitySetting(name: "events", on: false)]
    }
    engine = RecoveryEngine(options: options)
    isConnected = (false, false)
    pending = []
    isDone = false
    try feed(.startRequested)
    for side in Side.allCases { try connect(side) }
    for _ in 0..<20_000 where !isDone { try step() }
    guard isDone, let conclusion = engine.conclusion else {
      throw Violation(
        description: "recovery did not end: \(engine.step), deeds \(engine.plan), "
          + "pending \(pending), awaited \(engine.awaited) \(String(describing: engine.nextDeadline)) \(now) \(engine.source) \(engine.target)"
      )
    }
    return conclusion
  }

  private mutating func connect(_ side: Side) throws(Violation) {
    let isAlive = side == .source ? source != .dead : target != .dead
    guard isAlive else {
      return try feed(.monitorUnavailable(side, .unreachable(text: "refused")))
    }
    if side == .source { isConnected.source = true } else { isConnected.target = true }
    try feed(.monitorReady(side, QEMURelease(7, 2)))
  }

  private mutating func step() throws(Violation) {
    now = now + .milliseconds(1)
    if random.below(20) == 0 { try happen() }
    if !pending.isEmpty, random.below(3) != 0 {
      // Each side answers in order.
      let side = random.below(2) == 0 ? Side.source : .target
      if let index = pending.firstIndex(where: { $0.side == side }) {
        let entry = pending.remove(at: index)
        try carryOut(entry.command, side)
      }
      return
    }
    guard pending.isEmpty, let next = engine.nextDeadline else { return }
    if next > now, !stateIsOnItsWay || random.below(4) == 0 { now = next }
    try feed(.timePassed)
  }

  /// What happens by itself.
  private mutating func happen() throws(Violation) {
    switch random.below(faultsAreOver ? 4 : 7) {
    case 0:
      if source == .device {
        if random.below(4) == 0 {
          source = guestRan ? .runs : .pausedByOwner
          if target == .waiting { try die(.target) }
          if source == .runs { try tell(.source, .resume) }
        } else {
          complete()
          try tell(.source, .migration(.completed))
        }
      }
    case 1:
      let before = target
      if random.below(6) == 0, target == .waiting, stateIsOnItsWay {
        stateIsOnItsWay = false
        target = .failed
      } else {
        load()
      }
      if target == .runs, before != .runs { try tell(.target, .resume) }
      if target != before { try tell(.target, .migration(.completed)) }
    case 2:
      if source == .transferring, random.below(3) == 0 {
        source = mirrorsAreLive ? .preSwitchover : .device
        if guestRan { try tell(.source, .stop) }
      }
    case 3:
      // The host program resumes the target itself, on a connection of its own.
      if handOver == .external, source == .completed || source == .dead, target == .loaded,
        !isConnected.target, guestRan, !nbdServerRuns
      {
        ownership = .target
        run(.target)
      }
    case 4: if random.below(8) == 0 { try die(.source) }
    case 5: if random.below(8) == 0 { try die(.target) }
    default:
      let side = random.below(2) == 0 ? Side.source : .target
      if isAttached(side), random.below(3) == 0 {
        try lose(side)
        if !isDone, pending.isEmpty { try connect(side) }
      }
    }
    try check()
  }

  private func isAttached(_ side: Side) -> Bool {
    side == .source ? isConnected.source : isConnected.target
  }

  private mutating func tell(_ side: Side, _ event: QEMUEvent) throws(Violation) {
    try check()
    if isAttached(side), !isDone { try feed(.eventArrived(side, event, timestamp: nil)) }
  }

  private mutating func lose(_ side: Side) throws(Violation) {
    guard isAttached(side) else { return }
    if side == .source { isConnected.source = false } else { isConnected.target = false }
    try feed(.monitorLost(side))
    let lost = pending.filter { $0.side == side }.map(\.command)
    pending.removeAll { $0.side == side }
    for command in lost { try feed(.replied(side, command, .lost, roundTrip: .zero)) }
  }

  private mutating func die(_ side: Side) throws(Violation) {
    let wasAttached = isAttached(side)
    if side == .source {
      guard source != .dead else { return }
      source = .dead
    } else {
      guard target != .dead else { return }
      target = .dead
    }
    log.append("\(side) dies")
    try lose(side)
    if !isDone, wasAttached {
      if random.below(2) == 0 { try feed(.processExited(side)) }
      try feed(.monitorUnavailable(side, .unreachable(text: "gone")))
    }
  }

  // MARK: - Commands

  private mutating func feed(_ input: EngineInput) throws(Violation) {
    guard !isDone else { return }
    var effects: [EngineEffect] = []
    engine.handle(input, at: now, effects: &effects)
    for effect in effects {
      switch effect {
      case .send(let command, let side):
        guard isAttached(side) else {
          throw Violation(description: "'\(command.qmpName)' to a \(side) that is not connected")
        }
        pending.append((side, command))
      case .letGo(let side):
        try lose(side)
      case .finished:
        isDone = true
      default:
        break
      }
    }
  }

  private mutating func carryOut(_ command: Command, _ side: Side) throws(Violation) {
    let reply =
      side == .source ? try carryOutOnSource(command) : try carryOutOnTarget(command)
    try check()
    if isAttached(side) || reply != .lost {
      try feed(.replied(side, command, reply, roundTrip: .zero))
    }
    if command == .quit { try die(side) }
  }

  private mutating func carryOutOnSource(_ command: Command) throws(Violation) -> CommandReply {
    switch command {
    case .queryStatus: return .answered(.runState(sourceRunState))
    case .queryMigrate:
      var report = MigrationReport()
      report.status = sourceStatus
      return .answered(.migration(report))
    case .queryBlockJobs:
      guard mirrorsAreLive else { return .answered(.blockJobs([])) }
      return .answered(
        .blockJobs([
          BlockJobReport(
            id: "swo-mirror0", isReady: true, length: 8, offset: 8, status: "ready")
        ]))
    case .blockJobCancel: mirrorsAreLive = false
    case .migrateCancel:
      // The switchover may begin while the cancel is on its way.
      if source == .transferring, !mirrorsAreLive, random.below(3) == 0 { source = .device }
      if source == .device, random.below(2) == 0 {
        // The cancel meets the last acknowledgement: the target has all, and the source goes on.
        stateIsOnItsWay = true
        source = guestRan ? .runs : .pausedByOwner
      } else if source == .transferring || source == .preSwitchover {
        source = guestRan ? .runs : .pausedByOwner
        target = target == .waiting ? .dead : target
        if isConnected.target, target == .dead {
          target = .waiting
          try die(.target)
        }
      }
    case .cont:
      guard source == .completed else { return .answered(.done) }
      if mirrorsAreLive { throw Violation(description: "source resumed with a live mirror") }
      if targetHasRun { throw Violation(description: "a stale source is resumed (I1)") }
      if !guestRan { throw Violation(description: "a guest that stood is resumed (I8)") }
      if target == .loaded || target == .waiting {
        throw Violation(description: "the source is resumed beside a target that may run (I1)")
      }
      if ownership == .target, handOver == .beforeResume {
        throw Violation(description: "the source is resumed without ownership")
      }
      run(.source)
    case .quit:
      if !targetHasRun { throw Violation(description: "'quit' to a source that is needed") }
    case .setCapabilities: sourceCapabilityIsChanged = false
    default: break
    }
    return .answered(.done)
  }

  private mutating func carryOutOnTarget(_ command: Command) throws(Violation) -> CommandReply {
    switch command {
    case .queryStatus:
      switch target {
      case .waiting, .failed: return .answered(.runState(.inmigrate))
      case .loaded: return .answered(.runState(.paused))
      case .runs: return .answered(.runState(.running))
      case .dead: return .lost
      }
    case .queryMigrate:
      var report = MigrationReport()
      switch target {
      case .waiting: report.status = stateIsOnItsWay ? .active : .setup
      case .failed: report.status = .failed
      default: report.status = .completed
      }
      return .answered(.migration(report))
    case .stop:
      targetIsArmed = false
      if target == .runs {
        target = .loaded
        log.append("a target that had just started was stopped")
        try tell(.target, .stop)
      }
    case .cont:
      if nbdServerRuns, mirrorsAreLive {
        throw Violation(description: "granted beside an outside writer (I3)")
      }
      if !guestRan { throw Violation(description: "a guest that stood is resumed (I8)") }
      if source != .completed, source != .dead {
        throw Violation(description: "granted while the source is \(source) (I1)")
      }
      guard target == .loaded else { throw Violation(description: "granted in \(target)") }
      if handOver == .beforeResume, ownership == .source, !targetHasRun {
        throw Violation(description: "granted before the hand-over")
      }
      run(.target)
      try tell(.target, .resume)
    case .nbdServerStop:
      nbdServerRuns = false
    case .quit:
      if target == .runs { throw Violation(description: "'quit' to a guest that runs") }
    default: break
    }
    return .answered(.done)
  }

  private var sourceRunState: RunState {
    switch source {
    case .runs: .running
    case .pausedByOwner: .paused
    case .transferring: guestRan ? .running : .paused
    case .preSwitchover, .device: .finishMigrate
    case .completed, .dead: .postmigrate
    }
  }

  private var sourceStatus: MigrationStatus {
    switch source {
    case .runs, .pausedByOwner: .failed
    case .transferring: .active
    case .preSwitchover: .preSwitchover
    case .device: .device
    case .completed, .dead: .completed
    }
  }

  // MARK: - What must hold

  private func check() throws(Violation) {
    if source == .runs, target == .runs {
      throw Violation(description: "both guests run (I1)")
    }
  }

  private func judge(_ conclusion: RecoveryConclusion) throws(Violation) {
    let sourceRuns = source == .runs
    let targetRuns = target == .runs
    if conclusion.owner == .source, targetRuns {
      throw Violation(description: "owner source, and the target runs (I2)")
    }
    if conclusion.owner == .target, sourceRuns {
      throw Violation(description: "owner target, and the source runs (I2)")
    }
    if conclusion.guest == .running, !sourceRuns, !targetRuns, source != .transferring,
      source != .dead, target != .dead
    {
      throw Violation(description: "said to run, and stands (I2)")
    }
    guard conclusion.action != .ask else { return }
    let isAlive = source != .dead || (target == .loaded || target == .runs)
    if guestRan, isAlive, !sourceRuns, !targetRuns, conclusion.guest != .off {
      throw Violation(description: "settled, and nobody runs the guest")
    }
    if hasJournal, sourceRuns, sourceCapabilityIsChanged {
      throw Violation(description: "the source's capability was not put back")
    }
    if hasJournal, sourceRuns, mirrorsAreLive {
      throw Violation(description: "a mirror was left on the source")
    }
  }
}

/// A small generator of numbers from a seed.
struct SplitMix {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
