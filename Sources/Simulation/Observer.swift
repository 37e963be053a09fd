import MigrationEngine
import MigrationSession
import QMP

/// What must never be, by the numbers of the invariants, and the rules that need no number.
public enum Rule: String, CaseIterable, Sendable {
  case oneGuestRuns = "I1"
  case endIsTruthful = "I2"
  case noWriteIsLost = "I3"
  case noCancelAfterThePoint = "I4"
  case failureLeavesTheSource = "I5"
  case strangenessChangesNothing = "I7"
  case pausedStaysPaused = "I8"
  case bounds = "I9"
  case guestIsAttended = "a standing guest is attended"
  case handOverOnlyAfterProof = "hand-over"
  case noEffectAfterTheEnd = "no effect after the end"
  case liveness = "liveness"
  case leaveNoTrace = "leave no trace"
  case transitionTable = "transition table"
  case contradiction = "contradiction"
}

/// One rule that was broken.
public struct Violation: Sendable {
  public var rule: Rule
  public var text: String
  public var at: MonotonicInstant
}

/// Watches a world from outside of the session, and knows what is true.
struct Observer {
  private(set) var violations: [Violation] = []
  private(set) var remarks: [Violation] = []
  private(set) var conclusion: Conclusion?
  var lastSourceStatus = OutgoingMigration.Status.none
  /// Messages of a later QEMU that wait to be sent.
  var strangeness: [FaultKind] = []

  private let scenario: Scenario
  private var history: [Truth] = []
  private var endedAt: MonotonicInstant?
  private var hasCrashed = false
  private var clusterWord: RecoverySituation.Cluster?
  private var initial: (source: [Bool], target: [Bool]) = ([], [])
  private var initialParameters: (source: JSONObject, target: JSONObject) = ([:], [:])
  /// What the session has written.
  private var hasGranted = false
  private var hasContinued = false
  private var hasMigrated = false
  private var stopDelivered = false
  private var shutdownDelivered = false
  /// The host program resumed the target by itself, or said so.
  var hostTookOver = false
  private var sourceTail: [UInt8] = []
  /// The session has asked for the source's run state since the guest stood by itself.
  private var askedSinceItStood = false
  private var standingWasSeen = false
  /// Guests that ran on although they stood, where QEMU's interface does not tell.
  private(set) var ambiguousPauses = 0
  private var grantIsOnItsWay = 0
  private var hasResumedSource = false
  /// When what the session knows of a side left that side.
  private var contact: (source: MonotonicInstant, target: MonotonicInstant)
  private var somebodyStopped = false
  /// A stranger has resumed a source that had sent its guest; from then on two guests may run, and it is
  /// not the session's doing. It is once its bytes have told the session.
  private var strangerResumed = false
  private var sessionKnowsOfStranger = false
  private var targetHasRun = false
  /// The source ran on after its guest had arrived: what the target has is a thing of the past.
  private var targetIsOutOfDate = false

  init(_ scenario: Scenario) {
    self.scenario = scenario
    let origin = MonotonicInstant(nanoseconds: 0)
    contact = (origin, origin)
  }

  mutating func violate(_ rule: Rule, _ text: String, at now: MonotonicInstant) {
    violations.append(Violation(rule: rule, text: text, at: now))
  }

  /// A rule that is broken without making the rest meaningless; each is named once.
  mutating func remark(_ rule: Rule, _ text: String, at now: MonotonicInstant) {
    guard !remarks.contains(where: { $0.rule == rule && $0.text == text }) else { return }
    remarks.append(Violation(rule: rule, text: text, at: now))
  }

  mutating func begin(source: SimulatedQEMU, target: SimulatedQEMU) {
    initial = (source.capabilities.map(\.isOn), target.capabilities.map(\.isOn))
    initialParameters = (source.parameters, target.parameters)
    history = [
      Truth(
        source: source, target: target, targetHasRun: false, targetIsOutOfDate: false,
        at: MonotonicInstant(nanoseconds: 0))
    ]
  }

  // MARK: - The world

  /// Looks at both QEMUs after everything that one of them did.
  mutating func look(
    source: SimulatedQEMU, target: SimulatedQEMU, storage: SimulatedStorage,
    at now: MonotonicInstant
  ) {
    targetHasRun = targetHasRun || target.isRunning
    let hasArrived = strangerResumed || [.loading, .loaded].contains(target.incoming.stage)
    if source.isRunning, hasArrived, !targetHasRun { targetIsOutOfDate = true }
    let truth = Truth(
      source: source, target: target, targetHasRun: targetHasRun,
      targetIsOutOfDate: targetIsOutOfDate && !targetHasRun, at: now)
    guard truth != history.last else { return }
    let before = history.last
    history.append(truth)
    if source.isRunning && target.isRunning, !strangerResumed {
      violate(.oneGuestRuns, "both guests run", at: now)
    }
    for qemu in [source, target] where qemu.isRunning {
      let ranBefore =
        qemu.side == .source ? before?.sourceRuns ?? false : before?.targetRuns ?? false
      if !ranBefore { checkWrites(of: qemu, storage, at: now) }
    }
    if target.isRunning, target.hasOutsideWriter {
      violate(.noWriteIsLost, "the target runs while its disks have a writable export", at: now)
    }
    if target.isRunning, let state = target.incoming.state, state.runState != .running,
      before?.targetRuns == false, scenario.options.handOver != .external
    {
      if couldNotBeKnown {
        ambiguousPauses += 1
      } else {
        violate(
          .pausedStaysPaused, "the guest was '\(state.runState.rawValue)' and runs on the target",
          at: now)
      }
    }
    if source.runState != before?.sourceRunState, source.stands {
      standingWasSeen = false
      askedSinceItStood = false
    }
  }

  /// A guest that stands by itself an instant before the switchover: its STOP arrived, the session
  /// asked why, and QEMU's answer was that of the switchover. Nor can a recovery know of a pause
  /// that came after the journal was written.
  private var couldNotBeKnown: Bool {
    hasCrashed || (stopDelivered && askedSinceItStood && !standingWasSeen)
  }

  /// Every write that the guest saw acknowledged is on the disk that it now uses, or a later one.
  private mutating func checkWrites(
    of qemu: SimulatedQEMU, _ storage: SimulatedStorage, at now: MonotonicInstant
  ) {
    // Two guests overwrite what the other wrote.
    if strangerResumed, targetHasRun { return }
    for (index, attachment) in qemu.configuration.disks.enumerated() {
      for (sector, number) in qemu.guest.acknowledged[index].enumerated()
      where storage.read(sector, of: attachment.disk) < number {
        violate(
          .noWriteIsLost, "write \(number) to sector \(sector) of \(attachment.node) is not there",
          at: now)
        return
      }
    }
  }

  // MARK: - The session

  mutating func opened(_ stream: StreamID) { if stream == .sourceMonitor { sourceTail = [] } }

  mutating func delivered(
    _ bytes: [UInt8], on stream: StreamID, delay: Span, at now: MonotonicInstant
  ) {
    // What a monitor for commands out of band says is said again on the other one.
    guard stream != .sourceOutOfBand else { return }
    let side = stream.side
    let left = MonotonicInstant(nanoseconds: now.nanoseconds - delay.nanoseconds)
    if side == .source { contact.source = left } else { contact.target = left }
    guard stream == .sourceMonitor, hasMigrated else { return }
    // The word may arrive in pieces, and is none before its line is whole.
    sourceTail += bytes
    guard let end = sourceTail.lastIndex(of: UInt8(ascii: "\n")) else { return }
    let lines = Array(sourceTail[...end])
    sourceTail.removeSubrange(...end)
    if lines.contains(Self.stopWord) { stopDelivered = true }
    if lines.contains(Self.shutdownWord) { shutdownDelivered = true }
    if strangerResumed, [Self.resumeWord, Self.runningWord].contains(where: lines.contains) {
      sessionKnowsOfStranger = true
    }
  }

  private static let stopWord = Array("\"STOP\"".utf8)
  private static let shutdownWord = Array("\"SHUTDOWN\"".utf8)
  private static let resumeWord = Array("\"RESUME\"".utf8)
  private static let runningWord = Array("\"status\": \"running\"".utf8)

  /// The session writes; what it writes is judged by what is true at this moment.
  mutating func wrote(
    _ bytes: [UInt8], on stream: StreamID, source: SimulatedQEMU, target: SimulatedQEMU,
    host: HostProgram, at now: MonotonicInstant
  ) {
    for line in bytes.split(separator: UInt8(ascii: "\n")) {
      guard let message = line.withUnsafeBytes({ try? JSONText.decode($0) }),
        let command = (message["execute"] ?? message["exec-oob"])?.string
      else {
        violate(.bounds, "the session wrote what is no command", at: now)
        continue
      }
      switch (command, stream.side) {
      case (QEMUCommandName.cont, .target): judgeGrant(source, target, host, at: now)
      case (QEMUCommandName.cont, .source): judgeSourceResumption(source, target, host, at: now)
      case (QEMUCommandName.quit, .source): judgeSourceQuit(source, target, at: now)
      case (QEMUCommandName.quit, .target):
        if target.isRunning { violate(.endIsTruthful, "'quit' to a target that runs", at: now) }
      case (QEMUCommandName.migrate, _): hasMigrated = true
      case (QEMUCommandName.migrateContinue, _): hasContinued = true
      case (QEMUCommandName.migrateCancel, _):
        if hasContinued { violate(.noCancelAfterThePoint, "after migrate-continue", at: now) }
        // A guest that stood by itself has no STOP in the switchover: nobody could know.
        if stopDelivered, source.runState == .finishMigrate,
          source.outgoing.oldRunState == .running, source.outgoing.status != .preSwitchover
        {
          violate(.noCancelAfterThePoint, "after the STOP of the switchover", at: now)
        }
      default:
        if QEMUCommandName.pivots.contains(command) {
          violate(.noWriteIsLost, "a mirror is completed with a pivot", at: now)
        }
      }
    }
  }

  private mutating func judgeGrant(
    _ source: SimulatedQEMU, _ target: SimulatedQEMU, _ host: HostProgram,
    at now: MonotonicInstant
  ) {
    hasGranted = true
    grantIsOnItsWay += 1
    if source.isAlive, source.outgoing.status != .completed {
      violate(
        .oneGuestRuns,
        "granted while the source's migration is '\(source.outgoing.status.rawValue)'", at: now)
    }
    if !source.isAlive, source.outgoing.status != .completed, target.incoming.stage != .loaded {
      violate(.oneGuestRuns, "granted before the target of a dead source has loaded", at: now)
    }
    if source.isRunning, !strangerResumed || sessionKnowsOfStranger {
      violate(.oneGuestRuns, "granted while the source runs", at: now)
    }
    if hasCrashed {
      if [.beforeResume, .external].contains(scenario.options.handOver), host.ownership == .source {
        violate(.handOverOnlyAfterProof, "recovery granted although the source has it", at: now)
      }
    } else if scenario.options.handOver == .beforeResume, host.answer != .done {
      violate(.handOverOnlyAfterProof, "granted before the hand-over", at: now)
    } else if scenario.options.handOver == .external {
      violate(.oneGuestRuns, "granted where the host program resumes", at: now)
    }
    if source.guestIsOff, source.outgoing.status != .completed, target.incoming.stage != .loaded {
      violate(.pausedStaysPaused, "granted a guest that is off", at: now)
    }
  }

  private mutating func judgeSourceResumption(
    _ source: SimulatedQEMU, _ target: SimulatedQEMU, _ host: HostProgram,
    at now: MonotonicInstant
  ) {
    hasResumedSource = true
    if targetHasRun, !host.fenced.contains(.target) {
      violate(.oneGuestRuns, "source resumed after the guest ran on the target", at: now)
    }
    if target.isRunning { violate(.oneGuestRuns, "source resumed while the target runs", at: now) }
    if target.isAlive, hasGranted {
      violate(.oneGuestRuns, "source resumed after a grant, with the target alive", at: now)
    }
    if target.isAlive, target.runState == .inmigrate, target.isArmed {
      violate(.oneGuestRuns, "source resumed while the target is armed", at: now)
    }
    if host.ownership == .target {
      violate(
        .handOverOnlyAfterProof, "source resumed although the cluster has the guest at the target",
        at: now)
    }
  }

  private mutating func judgeSourceQuit(
    _ source: SimulatedQEMU, _ target: SimulatedQEMU, at now: MonotonicInstant
  ) {
    if source.isRunning, !strangerResumed || sessionKnowsOfStranger {
      violate(.failureLeavesTheSource, "'quit' to a running source", at: now)
    }
    if target.incoming.stage != .loaded, source.isAlive {
      violate(
        .failureLeavesTheSource, "'quit' to the source before the target has loaded", at: now)
    }
  }

  /// A command that a QEMU has carried out.
  mutating func carriedOut(
    _ command: String, _ arguments: JSONObject, by client: SimulatedStream.Client?, on side: Side,
    refused: Bool, source: SimulatedQEMU, target: SimulatedQEMU, at now: MonotonicInstant
  ) {
    var isSession = false
    if case .session = client { isSession = true }
    if client == nil, command == QEMUCommandName.stop { somebodyStopped = true }
    if client == nil, command == QEMUCommandName.cont, side == .source, !refused,
      source.outgoing.status == .completed
    {
      strangerResumed = true
    }
    guard isSession else { return }
    if command == QEMUCommandName.status, side == .source {
      askedSinceItStood = true
      if source.stands { standingWasSeen = true }
    }
    if command == QEMUCommandName.cont, side == .source, !refused, target.isRunning {
      violate(.oneGuestRuns, "the source took 'cont' while the target runs", at: now)
    }
    if command == QEMUCommandName.stop, side == .target, history.last?.targetRuns == true {
      violate(.pausedStaysPaused, "'stop' to a target that ran", at: now)
    }
  }

  mutating func handOverWanted(
    source: SimulatedQEMU, target: SimulatedQEMU, at now: MonotonicInstant
  ) {
    guard scenario.options.handOver != .afterResume else { return }
    if target.incoming.stage != .loaded {
      violate(.handOverOnlyAfterProof, "offered before the target has loaded", at: now)
    }
    if source.isAlive, source.outgoing.status != .completed {
      violate(
        .handOverOnlyAfterProof,
        "offered while the source's migration is '\(source.outgoing.status.rawValue)'", at: now)
    }
  }

  mutating func crashed() {
    hasCrashed = true
    // Nothing of the dead connection arrives any more: whoever finds `pre-switchover` may cancel.
    hasContinued = false
  }

  mutating func recovers(knowsOwnership word: RecoverySituation.Cluster?) { clusterWord = word }

  mutating func recovered(
    _ conclusion: RecoveryConclusion, source: SimulatedQEMU, target: SimulatedQEMU,
    at now: MonotonicInstant
  ) {
    endedAt = now
    let same = Conclusion(
      end: .failed, owner: conclusion.owner, guest: conclusion.guest, nextStep: conclusion.toDo)
    self.conclusion = same
    judgeTruth(same, at: now)
  }

  // MARK: - The end

  mutating func ended(
    _ conclusion: Conclusion?, source: SimulatedQEMU, target: SimulatedQEMU, struck: [FaultKind],
    at now: MonotonicInstant
  ) {
    guard let conclusion else {
      violate(.endIsTruthful, "it ended without a conclusion", at: now)
      return
    }
    self.conclusion = conclusion
    endedAt = now
    if conclusion.failure?.code == .internalContradiction {
      violate(.contradiction, conclusion.failure?.text ?? "", at: now)
    }
    if conclusion.owner == .unknown, !mayNotKnow(struck) {
      violate(
        .endIsTruthful, "owner unknown although nothing kept the session from knowing", at: now)
    }
    judgeTruth(conclusion, at: now)
    judgeTrace(conclusion, source, target, struck, at: now)
  }

  /// Whether something kept the session from learning who owns the guest.
  private func mayNotKnow(_ struck: [FaultKind]) -> Bool {
    if struck.contains(where: \.mayLeaveUnknown) { return true }
    // A target that dies at its load after a grant, where nobody can prove its death.
    let cannotLoad = !scenario.source.devices.allSatisfy(scenario.target.devices.contains)
    if cannotLoad && hasGranted { return true }
    switch scenario.host.result {
    case .done: return false
    case .unknown: return scenario.options.handOver != .none
    case .failed: return scenario.options.handOver == .external
    }
  }

  /// The session's word may be as old as its last contact with the side that it speaks of.
  private mutating func judgeTruth(_ conclusion: Conclusion, at now: MonotonicInstant) {
    // A recovery does not hear what a stranger did before it came.
    let isInformed = !strangerResumed || sessionKnowsOfStranger && !hasCrashed
    guard conclusion.owner != .unknown, isInformed else { return }
    let slack = Span(nanoseconds: scenario.jitter.nanoseconds * 2 + 25_000_000)
    let recent = MonotonicInstant(
      nanoseconds: min(contact.source, contact.target).nanoseconds - slack.nanoseconds)
    let contactWithOwner =
      conclusion.owner == .target ? contact.target : min(contact.source, contact.target)
    let since = MonotonicInstant(nanoseconds: contactWithOwner.nanoseconds - slack.nanoseconds)
    let last = MonotonicInstant(
      nanoseconds: min(now.nanoseconds - Span.milliseconds(500).nanoseconds, recent.nanoseconds))
    if !truths(since: last).contains(where: { $0.allows(conclusion.owner) }) {
      violate(
        .endIsTruthful,
        "owner \(conclusion.owner), guest \(conclusion.guest), but \(history.last?.text ?? "")",
        at: now)
    }
    if let runs = history.last,
      runs.sourceRuns && conclusion.owner == .target
        || runs.targetRuns && conclusion.owner != .target
    {
      violate(
        .endIsTruthful,
        "owner \(conclusion.owner), but the \(runs.sourceRuns ? "source" : "target") runs", at: now)
    }
    guard conclusion.guest != .unknown else { return }
    if isOffUnseen { return }
    // Whoever says that it resumed the guest there is believed.
    if hostTookOver, conclusion.owner == .target, conclusion.guest == .off { return }
    if !truths(since: min(since, last)).contains(where: { $0.guest == conclusion.guest }) {
      violate(
        .endIsTruthful,
        "guest \(conclusion.guest) at the \(conclusion.owner), but \(history.last?.text ?? "")",
        at: now)
    }
  }

  /// QEMU says `postmigrate` of a guest that was off when its migration completed (7.2 also where it failed):
  /// who did not hear SHUTDOWN cannot know.
  private var isOffUnseen: Bool {
    guard let last = history.last, last.guestIsOff, last.sourceRunState == .postmigrate else {
      return false
    }
    return !shutdownDelivered || hasCrashed && scenario.source.release == .qemu72
  }

  /// What was true at that instant, and everything that became true after it.
  private func truths(since instant: MonotonicInstant) -> ArraySlice<Truth> {
    let first = history.lastIndex { $0.at <= instant } ?? 0
    return history[first...]
  }

  /// What was changed is put back wherever a QEMU lives on and could be spoken to, once there is one
  /// owner; before that it is for the recovery to do.
  private mutating func judgeTrace(
    _ conclusion: Conclusion, _ source: SimulatedQEMU, _ target: SimulatedQEMU,
    _ struck: [FaultKind], at now: MonotonicInstant
  ) {
    let isQuiet = struck.allSatisfy { !$0.mayLeaveUnknown || $0 == .targetKilled }
    guard isQuiet, conclusion.owner == .source || conclusion.owner == .target,
      conclusion.failure?.code != .outcomeUnknown,
      conclusion.failure?.code != .monitorLost
    else { return }
    if source.isAlive, !source.outgoing.isUnderway,
      source.capabilities.map(\.isOn) != initial.source
        || source.parameters != initialParameters.source
    {
      remark(.leaveNoTrace, "the source's settings are not what they were", at: now)
    }
    if conclusion.owner == .target, target.isAlive, scenario.options.handOver != .external,
      target.capabilities.map(\.isOn) != initial.target
        || target.parameters != initialParameters.target
    {
      remark(.leaveNoTrace, "the target's settings are not what they were", at: now)
    }
  }

  /// A little after the end, when everything has settled.
  mutating func finish(
    source: SimulatedQEMU, target: SimulatedQEMU, storage: SimulatedStorage,
    at now: MonotonicInstant
  ) {
    guard violations.isEmpty, endedAt != nil, !strangerResumed else { return }
    for qemu in [source, target] where qemu.isRunning { checkWrites(of: qemu, storage, at: now) }
    guard let conclusion else { return }
    if source.isAlive, !source.outgoing.isUnderway, source.outgoing.status != .completed,
      scenario.guestAtStart == .running, !somebodyStopped, !source.guestIsOff,
      source.outgoing.oldRunState ?? .running == .running,
      source.runState == .finishMigrate || source.runState == .postmigrate
        || source.runState == .paused
    {
      violate(
        .failureLeavesTheSource, "the guest stands on the source: \(source.runState.rawValue)",
        at: now)
    }
    if conclusion.owner == .source, target.isRunning {
      violate(.endIsTruthful, "owner source, and then the target ran", at: now)
    }
    if conclusion.owner == .target, source.isRunning {
      violate(.endIsTruthful, "owner target, and then the source ran", at: now)
    }
    if conclusion.owner == .nobody, target.isRunning || source.isRunning,
      scenario.options.handOver != .external
    {
      violate(.endIsTruthful, "owner nobody, and then a guest ran", at: now)
    }
  }
}

/// What is true of a pair at one instant.
struct Truth: Equatable {
  var sourceRuns: Bool
  var targetRuns: Bool
  var sourceIsAlive: Bool
  var targetIsAlive: Bool
  var sourceRunState: QEMURunState
  var targetRunState: QEMURunState
  var sourceStatus: OutgoingMigration.Status
  var targetIsLoaded: Bool
  var targetIsArmed: Bool
  var guestIsOff: Bool
  var at: MonotonicInstant

  init(
    source: SimulatedQEMU, target: SimulatedQEMU, targetHasRun: Bool, targetIsOutOfDate: Bool,
    at now: MonotonicInstant
  ) {
    sourceRuns = source.isRunning
    targetRuns = target.isRunning
    sourceIsAlive = source.isAlive
    targetIsAlive = target.isAlive
    sourceRunState = source.runState
    targetRunState = target.runState
    sourceStatus = source.outgoing.status
    targetIsLoaded = target.incoming.stage == .loaded
    targetIsArmed = target.isArmed
    let sourceHolds = source.isAlive && !source.guestIsOff && source.runState != .shutdown
    let targetHolds =
      target.isAlive && targetIsLoaded && target.runState != .shutdown && !targetIsOutOfDate
    // Once it ran on the target, what the source still has is a thing of the past.
    guestIsOff = targetHasRun ? !targetHolds : !sourceHolds && !targetHolds
    at = now
  }

  static func == (left: Truth, right: Truth) -> Bool {
    left.sourceRuns == right.sourceRuns && left.targetRuns == right.targetRuns
      && left.sourceIsAlive == right.sourceIsAlive && left.targetIsAlive == right.targetIsAlive
      && left.sourceRunState == right.sourceRunState && left.targetRunState == right.targetRunState
      && left.sourceStatus == right.sourceStatus && left.targetIsLoaded == right.targetIsLoaded
      && left.targetIsArmed == right.targetIsArmed && left.guestIsOff == right.guestIsOff
  }

  /// Whether an honest witness may name this owner.
  func allows(_ owner: Owner) -> Bool {
    if owner == .unknown { return true }
    if targetRuns { return owner == .target }
    if sourceRuns { return owner == .source }
    // Nobody runs. Who could?
    let targetMayStart = targetIsAlive && targetRunState == .inmigrate && targetIsArmed
    switch owner {
    case .source:
      // It, or nobody any more, holds the guest; and the target never starts by itself.
      return !targetMayStart || sourceStatus != .completed
    case .target: return targetIsLoaded || targetMayStart
    case .nobody: return !targetMayStart
    case .unknown: return true
    }
  }

  var guest: GuestCondition {
    if targetRuns || sourceRuns { return .running }
    return guestIsOff ? .off : .paused
  }

  var text: String {
    "source \(sourceIsAlive ? sourceRunState.rawValue : "gone") (\(sourceStatus.rawValue)), "
      + "target \(targetIsAlive ? targetRunState.rawValue : "gone")"
      + (targetIsLoaded ? " (loaded)" : "") + (guestIsOff ? ", guest off" : "")
  }
}
