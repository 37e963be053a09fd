import MigrationEngine
import MigrationSession
import QMP

/// A simulated world: two QEMUs, what connects them, a host program, and the session that is tested.
///
/// It interprets the session's effects as the library's loop does and holds no migration logic.
/// Observers outside the session watch it and name what must never be.
public final class World {
  enum Happening {
    case qemu(Side, SimulatedQEMU.Input)
    /// Bytes, or the end, of a monitor connection.
    case atQEMU(stream: Int, [UInt8])
    case atClient(stream: Int, [UInt8])
    case endAtQEMU(stream: Int)
    case endAtClient(stream: Int)
    case sessionConnects(StreamID, attempt: Int)
    case deadline
    case request(HostRequest)
    case processGone(Side)
    // The migration connection.
    case linkOpens(generation: Int, address: String)
    case linkFlushed(generation: Int)
    case linkDelivers(generation: Int, to: Side, MigrationMessage)
    case linkEnds(generation: Int, at: Side)
    case guestWrites
    case blocks(connection: Int, to: Side, StorageLink.Message)
    case blocksCut(connection: Int, at: Side)
    case fault(Int)
    case faultEnds(Int)
    case heal
    case hostProgram(HostProgram.Wake)
    case otherClient(OtherClients.Wake)
    case sessionCounts(StreamID)
    case recordStored([UInt8]?, text: String)
    case recovers
  }

  /// Most happenings of one world: more is a session that turns in a circle (I9).
  static let maximumHappenings = 100_000
  /// How long the world goes on after the session's end.
  static let aftermath = Span.seconds(5)

  let scenario: Scenario
  let seed: UInt64
  public private(set) var now = MonotonicInstant(nanoseconds: 1_000_000_000)
  var queue = EventQueue<Happening>()
  var random: RandomSource
  public internal(set) var log: SimulationLog
  let storage = SimulatedStorage()
  public let source: SimulatedQEMU
  public let target: SimulatedQEMU
  var streams: [SimulatedStream] = []
  var link: MigrationLink
  var storageLink: StorageLink
  var host: HostProgram
  var others = OtherClients()
  /// When the session let go of the source's monitor, for others; nil: it has it.
  var leftSourceAt: MonotonicInstant?
  var sourceAttachedAt: MonotonicInstant?
  /// What consoles have read: every stream's bytes, in order of the streams.
  var consoles: [[UInt8]] = []
  var observer: Observer

  // The session and what its driver keeps.
  var session: MigrationSession?
  var recovery: RecoverySession?
  /// The rows of the recovery table that decided.
  public internal(set) var recoveryRules: [String] = []
  var sessionStreams = [Int?](repeating: nil, count: StreamID.allCases.count)
  var openAttempts = [Int](repeating: 0, count: StreamID.allCases.count)
  var knowsProcess = [Bool](repeating: false, count: StreamID.allCases.count)
  var scheduledDeadline: MonotonicInstant?
  var servedDeadlineAt: MonotonicInstant?
  var sessionEndedAt: MonotonicInstant?
  /// What is durable of the journal.
  var journal: [UInt8]?
  var hasHealed = false
  /// Another guest's QEMU has the target's address.
  var targetIsReplaced = false
  /// The migration's session has met the target's process; the recovery has it from the journal.
  var hasMetTarget = false
  var recoveryKnowsTarget = false

  public internal(set) var happenings = 0
  public internal(set) var struck: [FaultKind] = []
  var hasStruck: [Bool]
  /// How often each row of the engine's transition table was taken.
  public internal(set) var transitions = [Int](
    repeating: 0, count: MigrationPhase.transitions.count)
  var lastPhase = MigrationPhase.idle

  let start: MonotonicInstant

  public init(_ scenario: Scenario, seed: UInt64, isVerbose: Bool = false) {
    self.scenario = scenario
    self.seed = seed
    start = now
    random = RandomSource(seed: seed ^ 0x5EED_0F_A_0123_4567)
    log = SimulationLog(isVerbose: isVerbose)
    for disk in scenario.disks { _ = storage.add(sectors: disk.sectors, hasLock: disk.hasLock) }
    source = SimulatedQEMU(
      side: .source, configuration: scenario.source, storage: storage, random: random.branch())
    target = SimulatedQEMU(
      side: .target, configuration: scenario.target, storage: storage, random: random.branch())
    link = MigrationLink(
      delay: scenario.migrationDelay, bytesPerSecond: scenario.migrationBytesPerSecond)
    storageLink = StorageLink(delay: scenario.migrationDelay)
    host = HostProgram(scenario.host)
    observer = Observer(scenario)
    hasStruck = scenario.faults.map { _ in false }
    var configuration = SessionConfiguration(
      options: scenario.options, sourceMonitor: .unix(path: "/source.qmp"),
      targetMonitor: .unix(path: "/target.qmp"))
    if scenario.hasOutOfBandMonitor { configuration.sourceOutOfBand = .unix(path: "/oob.qmp") }
    session = MigrationSession(configuration: configuration)
  }

  subscript(side: Side) -> SimulatedQEMU { side == .source ? source : target }

  // MARK: - Running

  /// Lets everything happen, until the session has ended and its aftermath is over.
  public func run() -> RunReport {
    observer.begin(source: source, target: target)
    if scenario.guestAtStart == .paused { give(.source, .ownerCommand(QEMUCommandName.stop, [:])) }
    for order in scenario.ordersBeforeStart {
      schedule(.qemu(order.side, .ownerCommand(order.command, order.arguments)), after: order.after)
    }
    for index in scenario.faults.indices { plan(index) }
    schedule(.request(.start), after: scenario.startsAfter)
    schedule(.guestWrites, after: .milliseconds(3))
    otherClientsBegin()
    schedule(.heal, after: scenario.healsAt)
    while takeNext() {
      if let end = sessionEndedAt, now - end > Self.aftermath { break }
      if sessionEndedAt == nil, now - start > scenario.mustEndBy {
        observer.violate(.liveness, "the session did not end", at: now)
        break
      }
      happenings += 1
      guard happenings < Self.maximumHappenings else {
        observer.violate(.bounds, "too much happens", at: now)
        break
      }
      noteStep()
      strikeAtStep(happenings)
      happen(next)
      if !observer.violations.isEmpty { break }
    }
    return report()
  }

  /// The happenings at which a fault can make a difference.
  private var steps: [Int] = []
  private var distinctSteps: [Int] = []
  private var lastView: View?

  /// What can be told of a world from outside, without its bytes.
  private struct View: Equatable {
    var phase: MigrationPhase
    var sourceRunState: QEMURunState
    var targetRunState: QEMURunState
    var sourceStatus: OutgoingMigration.Status
    var targetStage: IncomingMigration.Stage
    var targetIsArmed: Bool
    var mirrors: Int
    var connections: Int
    var answer: HandOverResult?
  }

  private func noteStep() {
    guard sessionEndedAt == nil, happenings > 0, !scenario.hasFaults else { return }
    switch next {
    case .guestWrites, .heal, .fault: return
    default: steps.append(happenings)
    }
    let view = View(
      phase: lastPhase, sourceRunState: source.runState, targetRunState: target.runState,
      sourceStatus: source.outgoing.status, targetStage: target.incoming.stage,
      targetIsArmed: target.isArmed, mirrors: source.blocks.jobs.count,
      connections: sessionStreams.count { $0 != nil }, answer: host.answer)
    if view != lastView { distinctSteps.append(happenings) }
    lastView = view
  }

  /// The happening that is due; the clock stands at its instant.
  private var next = Happening.heal

  private func takeNext() -> Bool {
    guard let (time, happening) = queue.takeNext() else { return false }
    now = time
    next = happening
    return true
  }

  /// Lets things happen until the condition holds; false when it does not hold in time.
  ///
  /// It is how a pair without a session is driven: by the consoles that are connected to it.
  func happenUntil(within limit: Span, _ condition: () -> Bool) -> Bool {
    let end = now + limit
    while !condition() {
      guard let due = queue.nextTime, due <= end, takeNext() else { return false }
      happen(next)
    }
    return true
  }

  private func happen(_ happening: Happening) {
    switch happening {
    case .qemu(let side, let input): give(side, input)
    case .atQEMU(let index, let bytes): arrivedAtQEMU(index, bytes)
    case .atClient(let index, let bytes): arrivedAtClient(index, bytes)
    case .endAtQEMU(let index): endedAtQEMU(index)
    case .endAtClient(let index): endedAtClient(index)
    case .sessionConnects(let stream, let attempt): sessionConnects(stream, attempt)
    case .deadline: deadlineCame()
    case .request(let request): give(.requested(request))
    case .processGone(let side): processGone(side)
    case .linkOpens(let generation, let address): linkOpens(generation, address)
    case .linkFlushed(let generation):
      if generation == link.generation { give(.source, .migrationFlushed) }
    case .linkDelivers(let generation, let side, let message):
      linkDelivers(generation, side, message)
    case .linkEnds(let generation, let side):
      if generation == link.generation { give(side, .migrationEnded) }
    case .guestWrites: guestWrites()
    case .blocks(let connection, let side, let message):
      blocksArrived(connection, side, message)
    case .blocksCut(let connection, let side):
      give(side, .network(.ended(connection: connection)))
    case .fault(let index): strike(index)
    case .faultEnds(let index): faultEnds(index)
    case .heal: heal()
    case .hostProgram(let wake): hostProgramWakes(wake)
    case .otherClient(let wake): otherClientWakes(wake)
    case .sessionCounts(let stream): sessionCounts(stream)
    case .recordStored(let bytes, let text): recordStored(bytes, text)
    case .recovers: recovers()
    }
  }

  func schedule(_ happening: Happening, after span: Span) {
    queue.schedule(happening, at: now + span)
  }

  func schedule(_ happening: Happening, at instant: MonotonicInstant) {
    queue.schedule(happening, at: instant)
  }

  private func guestWrites() {
    for side in Side.allCases where self[side].isRunning && !scenario.disks.isEmpty {
      give(side, .guestWrites)
    }
    // Often around the switchover, seldom in the long waits after it.
    let isLate = now - start > .seconds(40)
    let microseconds = random.number(in: isLate ? 200_000...900_000 : 1_000...40_000)
    schedule(.guestWrites, after: .microseconds(microseconds))
  }

  // MARK: - QEMU

  func give(_ side: Side, _ input: SimulatedQEMU.Input) {
    for effect in self[side].handle(input, at: now) { carryOut(effect, of: side) }
    if side == .source {
      statusStriker()
      lookForUnattendedGuest()
      letBlockedClientsIn()
    }
    observer.look(source: source, target: target, storage: storage, at: now)
  }

  private func carryOut(_ effect: SimulatedQEMU.Effect, of side: Side) {
    switch effect {
    case .send(let client, let bytes): sendToClient(client, strange(bytes, for: client))
    case .wake(let timer, let instant): schedule(.qemu(side, .woken(timer)), at: instant)
    case .connectMigration(let address):
      link.generation += 1
      schedule(
        .linkOpens(generation: link.generation, address: address), after: link.delay)
    case .sendMigration(let message, let bytes): sendMigration(from: side, message, bytes)
    case .closeMigration: closeMigration(side)
    case .socketsClosed: socketsClosed(of: side)
    case .exited(let status):
      log.note("exit", at: now, number: UInt64(truncatingIfNeeded: status)) { "\(side) \(status)" }
      schedule(.processGone(side), after: .microseconds(random.number(in: 10...2_000)))
    case .carriedOut(let name, let arguments, let client, let refused):
      log.note("qemu", at: now, number: UInt64(name.utf8.count)) {
        "\(side) carried out \(name)\(refused ? ", refused" : "")"
      }
      var sender: SimulatedStream.Client?
      if let client { sender = streams[client].client }
      observer.carriedOut(
        name, arguments, by: sender, on: side, refused: refused, source: source, target: target,
        at: now)
    case .network(let effect): carryOut(effect, of: side)
    }
  }

  private func socketsClosed(of side: Side) {
    for index in streams.indices where streams[index].side == side && streams[index].isOpenAtQEMU {
      streams[index].isOpenAtQEMU = false
      if !streams[index].isHalfOpen { endLater(index, at: .toClient) }
    }
    closeMigration(side)
    endStorage(of: side)
  }

  private func processGone(_ side: Side) {
    for stream in StreamID.allCases where stream.side == side && knowsProcess[stream.rawValue] {
      knowsProcess[stream.rawValue] = false
      give(.processExited(stream))
    }
  }

  // MARK: - The migration connection

  private func linkOpens(_ generation: Int, _ address: String) {
    guard generation == link.generation else { return }
    guard target.listens(at: address), link.state != .up else {
      let reason = target.listensNot(at: address)
      give(.source, .migrationRefused("Failed to connect to '\(address.dropFirst(5))': \(reason)"))
      return
    }
    link.state = .up
    link.closedBySource = false
    link.closedByTarget = false
    give(.target, .migrationAccepted)
    give(.source, .migrationConnected)
  }

  private func sendMigration(from side: Side, _ message: MigrationMessage, _ bytes: UInt64) {
    guard link.state == .up else { return }
    if link.isStalled {
      link.waiting.append((side, message, bytes))
      return
    }
    let transmission = SimulatedQEMU.time(of: bytes, at: link.bytesPerSecond)
    if side == .source {
      schedule(.linkFlushed(generation: link.generation), after: transmission)
    }
    if link.vanishes { return }
    let arrival = link.arrival(to: side.other, at: now + transmission)
    schedule(.linkDelivers(generation: link.generation, to: side.other, message), at: arrival)
  }

  private func linkDelivers(_ generation: Int, _ side: Side, _ message: MigrationMessage) {
    guard generation == link.generation, link.state == .up, !link.vanishes else { return }
    give(side, .migrationArrived(message))
  }

  private func closeMigration(_ side: Side) {
    let isClosed = side == .source ? link.closedBySource : link.closedByTarget
    guard link.state == .up, !isClosed else { return }
    if side == .source { link.closedBySource = true } else { link.closedByTarget = true }
    if link.vanishes { return }
    let arrival = link.arrival(to: side.other, at: now)
    schedule(.linkEnds(generation: link.generation, at: side.other), at: arrival)
  }

  /// Both ends learn that the connection is gone; what was on its way is lost.
  func cutMigration() {
    guard link.state == .up else { return }
    link.state = .down
    link.waiting = []
    for side in Side.allCases {
      schedule(.linkEnds(generation: link.generation, at: side), after: link.delay)
    }
  }

  func endStallOfMigration() {
    link.isStalled = false
    let waiting = link.waiting
    link.waiting = []
    for entry in waiting { sendMigration(from: entry.from, entry.message, entry.bytes) }
  }

  // MARK: - The end

  private func report() -> RunReport {
    observer.finish(source: source, target: target, storage: storage, at: now)
    if observer.violations.isEmpty { compareWithUndisturbedTwin() }
    return RunReport(
      violations: observer.violations + observer.remarks, hash: log.hash,
      conclusion: observer.conclusion,
      happenings: happenings, struck: struck, transitions: transitions,
      recoveryRules: recoveryRules, ambiguousPauses: observer.ambiguousPauses,
      steps: steps, distinctSteps: distinctSteps, duration: now - start)
  }
}

extension World {
  /// What a later QEMU says, and waking up for nothing, do not change how it ends (I7).
  private func compareWithUndisturbedTwin() {
    guard !struck.isEmpty, struck.allSatisfy(\.isHarmless), let end = observer.conclusion?.end,
      !scenario.endsByTheClock
    else { return }
    var undisturbed = scenario
    undisturbed.faults = []
    let twin = World(undisturbed, seed: seed).run()
    guard let other = twin.conclusion?.end, twin.violations.isEmpty, other != end else { return }
    observer.violate(
      .strangenessChangesNothing, "it ended '\(end)' rather than '\(other)'", at: now)
  }
}

/// What one world came to.
public struct RunReport: Sendable {
  public var violations: [Violation]
  public var hash: UInt64
  /// How the session ended; nil when it did not.
  public var conclusion: Conclusion?
  public var happenings: Int
  public var struck: [FaultKind]
  public var transitions: [Int]
  /// The rows of the recovery table that decided, one for each recovery.
  public var recoveryRules: [String]
  /// Pauses of the guest that could not be told from the switchover's own STOP.
  public var ambiguousPauses: Int
  /// Of a world without faults: the happenings that a fault may precede.
  public var steps: [Int]
  /// Those of them before which an observer could tell a difference.
  public var distinctSteps: [Int]
  /// Simulated time.
  public var duration: Span
}
