/// One migration of one guest: facts in, effects out.
///
/// The engine opens nothing, reads no clock and speaks no JSON. Every input only adds to what is known;
/// the decision for the phase is then made anew from all that is known, so that a fact counts the same
/// whether an event, a reply or a reconcile query brought it. The phase changes at one place, against
/// the transition table.
public struct MigrationEngine: Sendable {
  public let options: MigrationOptions
  public private(set) var phase = MigrationPhase.idle
  /// Set when the migration has ended.
  public internal(set) var conclusion: Conclusion?
  public internal(set) var progress = Progress()
  public internal(set) var ledger = Ledger()

  var source = QEMUFacts()
  var target = QEMUFacts()
  var preflight = Preflight()
  var sourceSettings: Settings?
  var targetSettings: Settings?
  var guestRun = GuestRun()
  var grant = Grant()
  var handOver = HandOver()
  var convergence = Convergence(
    limitMilliseconds: Convergence.defaultLimitMilliseconds, highestMilliseconds: 0)
  var awaited = AwaitedReplies()
  var hold = MonitorHold()
  var lastReport: MonotonicInstant?
  var alarms = Alarms()
  /// The instant of the input that is being handled.
  var now = MonotonicInstant(nanoseconds: 0)

  /// Where inside its phase a migration stands, for phases of several steps.
  var step = 0
  var startRequested = false
  var cancelRequested = false
  var cancelSent = false
  /// What became of it is unknown, and QEMU's status says that it was not carried out.
  var cancelIsLost = false
  /// `stop` was sent to the target while it was `inmigrate`, and `inmigrate` was confirmed after it.
  var targetDisarmed = false
  /// `migrate` was written.
  var migrateSent = false
  /// QEMU took it: statuses now belong to this migration.
  var migrateAccepted = false
  /// The guest powered off, panicked or was shut down on its way.
  var guestIsOff = false
  /// Why it is being undone; nil for a cancel.
  var undoReason: Failure?
  /// What became of `cont` on a source that takes the guest back.
  var sourceResumption = SourceResumption.notTried
  /// The source ran again after its `completed`, and it was not we who resumed it: what the target has is
  /// out of date from then on (I1).
  var sourceRanAgain = false
  /// The source died on the way, and the target did not answer what it has.
  var targetIsUnheard = false
  var standingWarned = false
  /// `query-status` was asked after the source's final status.
  var sourceRunStateIsFresh = false
  /// The connection that carried the grant is still the one we hear: QEMU says RESUME before it lets a
  /// guest run, so an end of both, connection and process, without RESUME proves that it did not run.
  var grantConnectionIsUnbroken = true

  /// The host program's, not sent yet.
  var owedDowntimeLimit: Int64?

  var intent = Intent.notAsked

  enum Intent: Hashable, Sendable {
    case notAsked, asked, stored
    case failed(String)
  }

  var mirrors: MirrorSet
  /// Nodes and drives of the source, as far as sizes have to agree.
  var sourceNodes: [BlockNodeReport] = []
  var nbdStop = NBDStop.notSent
  /// The check in `pre-switchover` allowed the order with one round trip less.
  var usesFastOrder = false
  var preSwitchoverStep = 0
  var continuation = Continuation.pending
  var modeChangeAsked = false
  var yankSent = false
  /// The mirrors that were told to end.
  var endingSince: [(index: Int, since: MonotonicInstant, way: MirrorEnding)] = []
  var mirrorsAskedToEnd: MonotonicInstant?
  var lastMirrorPoll: MonotonicInstant?

  /// What became of `migrate-continue`.
  enum Continuation: Hashable, Sendable {
    /// Not sent, on its way, or taken.
    case pending
    /// Its reply was lost, or it was refused: the source's status tells.
    case doubtful
    /// The source still waits for it.
    case toBeRepeated
  }

  enum SourceResumption: Hashable, Sendable {
    case notTried, sent, accepted, lost
    case refused(Refusal)
  }

  public init(options: MigrationOptions) {
    self.options = options
    mirrors = MirrorSet(options.storage.disks)
  }

  /// The instant at which `timePassed` is due; nil: nothing to wait for.
  ///
  /// An alarm that was due at the last input and that nobody took says nothing any more: only later
  /// ones are waited for.
  public var nextDeadline: MonotonicInstant? {
    if phase == .ended { return nil }
    let hold = options.sourceMonitorIsShared ? hold.nextInstant(after: now) : nil
    guard let hold, let alarm = alarms.next(after: now) else {
      return hold ?? alarms.next(after: now)
    }
    return min(hold, alarm)
  }

  /// Whether a cancel would still be taken (I4).
  public var canCancel: Bool {
    switch phase {
    case .idle, .connecting, .preflight, .preparing, .mirroring: true
    case .transferring: !guestRun.stopUnexplained && source.status != .device
    case .switchingOver: source.status == .preSwitchover && !isContinued
    case .handingOver, .activating, .finishing, .ended: false
    case .undoing: undoReason == nil
    }
  }

  /// Takes one input and appends what is to be done about it, in order.
  public mutating func handle(
    _ input: EngineInput, at now: MonotonicInstant, effects: inout [EngineEffect]
  ) {
    guard phase != .ended else { return }
    self.now = now
    absorb(input, &effects)
    // A decision may lead through several phases; the bound only guards against a contradiction.
    for _ in 0..<MigrationPhase.allCases.count {
      let next = decide(&effects)
      if next == phase {
        shareSourceMonitor(&effects)
        return
      }
      guard phase.mayBecome(next) else {
        contradict("\(phase) cannot become \(next)", &effects)
        return
      }
      phase = next
      step = 0
      enter(next, &effects)
      effects.append(.phaseChanged(next))
      if next == .ended {
        effects.append(.finished)
        return
      }
    }
    contradict("phases turn in a circle at \(phase)", &effects)
  }

  private mutating func decide(_ effects: inout [EngineEffect]) -> MigrationPhase {
    switch phase {
    case .idle: startRequested ? .connecting : .idle
    case .connecting: decideConnecting()
    case .preflight: decidePreflight(&effects)
    case .preparing: decidePreparing(&effects)
    case .mirroring: decideMirroring(&effects)
    case .transferring: decideTransferring(&effects)
    case .switchingOver: decideSwitchingOver(&effects)
    case .handingOver: decideHandingOver(&effects)
    case .activating: decideActivating(&effects)
    case .finishing: decideFinishing(&effects)
    case .undoing: decideUndoing(&effects)
    case .ended: .ended
    }
  }

  private mutating func enter(_ phase: MigrationPhase, _ effects: inout [EngineEffect]) {
    alarms.clear(.step)
    switch phase {
    case .preflight: beginPreflight(&effects)
    case .preparing: beginPreparing(&effects)
    case .mirroring: beginMirroring(&effects)
    case .transferring: beginTransferring(&effects)
    case .switchingOver: beginSwitchingOver(&effects)
    case .handingOver: beginHandingOver(&effects)
    case .activating: beginActivating(&effects)
    case .finishing: beginFinishing(&effects)
    case .undoing: beginUndoing(&effects)
    case .idle, .connecting, .ended: break
    }
  }

  /// The engine contradicts itself: a trap where we test, and elsewhere an end that claims nothing.
  private mutating func contradict(_ text: String, _ effects: inout [EngineEffect]) {
    assertionFailure(text)
    conclusion = Conclusion(
      end: .unknown, owner: .unknown, guest: .unknown,
      failure: Failure(.internalContradiction, text: "the engine contradicts itself: \(text)"),
      nextStep: "look at both QEMUs with query-status before resuming either")
    phase = .ended
    effects.append(.phaseChanged(.ended))
    effects.append(.finished)
  }

  subscript(side: Side) -> QEMUFacts {
    get { side == .source ? source : target }
    set { if side == .source { source = newValue } else { target = newValue } }
  }

  // MARK: - Sending

  /// Sends a command whose reply the present step waits for.
  mutating func ask(_ command: Command, _ side: Side, _ effects: inout [EngineEffect]) {
    awaited.add(command, side)
    effects.append(.send(command, to: side))
  }

  /// Sends a query unless the same one is on its way already.
  mutating func poll(_ command: Command, _ side: Side, _ effects: inout [EngineEffect]) {
    guard self[side].isConnected, !awaited.contains(command, side) else { return }
    ask(command, side, &effects)
  }
}

/// The commands whose replies are still to come.
struct AwaitedReplies: Sendable {
  private var entries: [(command: Command, side: Side)] = []

  var isEmpty: Bool { entries.isEmpty }

  func isEmpty(_ side: Side) -> Bool { !entries.contains { $0.side == side } }

  func contains(_ command: Command, _ side: Side) -> Bool {
    entries.contains { $0.side == side && $0.command == command }
  }

  mutating func add(_ command: Command, _ side: Side) { entries.append((command, side)) }

  mutating func remove(_ command: Command, _ side: Side) {
    if let index = entries.firstIndex(where: { $0.side == side && $0.command == command }) {
      entries.remove(at: index)
    }
  }
}

/// The instants at which the engine wants to be woken.
struct Alarms: Sendable {
  enum Kind: Int, CaseIterable { case poll, step, transferLimit, standing, yank, drain, silence }

  private var instants = [MonotonicInstant?](repeating: nil, count: Kind.allCases.count)

  func next(after now: MonotonicInstant) -> MonotonicInstant? {
    var earliest: MonotonicInstant?
    for case let instant? in instants where instant > now {
      earliest = min(earliest ?? instant, instant)
    }
    return earliest
  }

  func isSet(_ kind: Kind) -> Bool { instants[kind.rawValue] != nil }

  mutating func set(_ kind: Kind, _ instant: MonotonicInstant) { instants[kind.rawValue] = instant }

  /// Not later than `instant`. One that was due already and that nobody took is replaced: it wakes
  /// nobody any more.
  mutating func setEarlier(
    _ kind: Kind, _ instant: MonotonicInstant, at now: MonotonicInstant
  ) {
    let present = instants[kind.rawValue].flatMap { $0 > now ? $0 : nil }
    instants[kind.rawValue] = min(present ?? instant, instant)
  }

  mutating func clear(_ kind: Kind) { instants[kind.rawValue] = nil }

  /// Whether it is due; a due alarm is cleared.
  mutating func takeDue(_ kind: Kind, at now: MonotonicInstant) -> Bool {
    guard let instant = instants[kind.rawValue], instant <= now else { return false }
    instants[kind.rawValue] = nil
    return true
  }
}

extension MigrationEngine {
  /// Both QEMUs run on this machine: the ledger need not estimate their clocks.
  ///
  /// - Parameter offset: our monotonic clock minus this machine's wall clock, microseconds.
  public mutating func clocksAreOne(offset: Int64) { ledger.sharedOffset = offset }
}

/// What a later process must know to bring the pair to one owner.
public struct IntentFacts: Hashable, Sendable {
  public struct QEMU: Hashable, Sendable {
    public var release: QEMURelease?
    /// What it had before we changed it.
    public var capabilities: [CapabilitySetting]
    public var parameters: [ParameterSetting]
  }

  public var source: QEMU
  public var target: QEMU
  /// The source's run state at the preflight.
  public var runState: RunState?
}

extension MigrationEngine {
  /// Whether the intent has been made durable.
  public var intentIsStored: Bool { intent == .stored }

  /// What is about to be changed; complete once the preflight is over.
  public var intentFacts: IntentFacts {
    func facts(_ side: Side) -> IntentFacts.QEMU {
      var settings = (side == .source ? sourceSettings : targetSettings) ?? Settings()
      _ = settings.changes(toReach: wantedCapabilities(side))
      _ = settings.changes(toReach: wantedParameters(side))
      if side == .source { rememberWhatMayChange(&settings) }
      return IntentFacts.QEMU(
        release: self[side].release, capabilities: settings.capabilitiesToRestore,
        parameters: settings.parametersToRestore)
    }
    return IntentFacts(
      source: facts(.source), target: facts(.target), runState: preflight.source.runState)
  }
}

/// How far one disk has got.
public struct DiskProgress: Hashable, Sendable {
  public var device: String
  public var copiedBytes: UInt64
  public var totalBytes: UInt64
}

extension MigrationEngine {
  /// The disks in the order of the options.
  public var disks: [DiskProgress] {
    mirrors.mirrors.map {
      DiskProgress(
        device: $0.disk.device, copiedBytes: $0.report?.offset ?? 0,
        totalBytes: $0.report?.length ?? 0)
    }
  }
}
