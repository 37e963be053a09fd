// From `migrate` to the guest's running on the target.

extension MigrationEngine {
  /// From one progress report to the next; also the reconcile that a lost event cannot stall.
  static let reportInterval = Span.seconds(1)
  /// Reports are asked for at whole multiples of this, so that many migrations wake their loop once.
  static let reportGrid = Span.milliseconds(50)
  static let leastReportInterval = Span.milliseconds(900)
  /// After this long without news in the blackout both sides are asked again.
  static let reconcileInterval = Span.seconds(2)
  /// After this long a standing guest is worth a warning.
  static let standingLimit = Span.seconds(10)
  /// How long a run state may stay unexplained before it counts as unknown.
  static let explanationLimit = Span.seconds(10)
  /// How often a target is looked at whose monitor was left to the host program.
  static let externalInterval = Span.milliseconds(500)
  /// How long the source may take to end its mirrors before the host program is told to go on.
  static let externalOfferLimit = Span.seconds(2)

  // MARK: - Transferring

  /// When the next report is due.
  var nextReport: MonotonicInstant { onGrid(after: Self.reportInterval) }

  private var nextTransferReport: MonotonicInstant { onGrid(after: transferPollInterval) }

  private func onGrid(after interval: Span) -> MonotonicInstant {
    let due = now + interval
    return MonotonicInstant(
      nanoseconds: due.nanoseconds - due.nanoseconds % Self.reportGrid.nanoseconds)
  }

  mutating func beginTransferring(_ effects: inout [EngineEffect]) {
    alarms.set(.poll, nextTransferReport)
    guard !migrateSent else { return }
    migrateSent = true
    ask(.migrate(uri: options.uri), .source, &effects)
    if let limit = options.transferDeadline { alarms.set(.transferLimit, now + limit) }
  }

  mutating func decideTransferring(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if undoReason != nil { return .undoing }
    switch source.status {
    case .completed, .device, .preSwitchover: return .switchingOver
    case .failed, .cancelled: return .undoing
    default: break
    }
    if guestRun.stopUnexplained || source.isProvenDead { return .switchingOver }
    if let failure = transferFailure() {
      undoReason = failure
      return .undoing
    }
    if cancelRequested { return .undoing }
    if !hold.isAboutToLeave(at: now), alarms.takeDue(.poll, at: now) {
      alarms.set(.poll, nextTransferReport)
      poll(.queryMigrate, .source, &effects)
      if !mirrors.isEmpty { poll(.queryBlockJobs, .source, &effects) }
    }
    return .transferring
  }

  private mutating func transferFailure() -> Failure? {
    if guestIsOff {
      return Failure(
        .guestOff, side: .source, text: "the guest powered off, or was shut down, on its way")
    }
    if let text = mirrors.failure { return Failure(.storage, side: .source, text: text) }
    if let failure = stallFailure() { return failure }
    if target.isProvenDead {
      return Failure(.targetGone, side: .target, text: "target's QEMU ended during the transfer")
    }
    if source.isOutOfReach || target.isOutOfReach { return monitorFailure() }
    if hold.isAwayForTooLong(at: now) {
      return Failure(
        .monitorBusy, side: .source,
        text:
          "another client kept the source's monitor until the guest could have been left standing")
    }
    if alarms.takeDue(.transferLimit, at: now) {
      return Failure(
        .deadline, side: .source,
        text:
          "the transfer did not converge within \(options.transferDeadline?.milliseconds ?? 0) ms")
    }
    return nil
  }

  // MARK: - Switching over

  mutating func beginSwitchingOver(_ effects: inout [EngineEffect]) {
    alarms.clear(.transferLimit)
    alarms.set(.poll, now + Self.reconcileInterval)
    alarms.set(.standing, now + Self.standingLimit)
  }

  mutating func decideSwitchingOver(_ effects: inout [EngineEffect]) -> MigrationPhase {
    switch source.status {
    case .completed:
      return decideAfterCompleted(&effects)
    case .failed, .cancelled:
      return .undoing
    case .preSwitchover where !source.isProvenDead && !source.isOutOfReach:
      return decidePreSwitchover(&effects)
    default:
      break
    }
    if source.isProvenDead { return decideAfterSourceDeath(&effects) }
    if source.isOutOfReach {
      undoReason = monitorFailure()
      return .undoing
    }
    if source.isConnected, !guestRun.stopUnexplained, source.status != .device,
      source.runState != .finishMigrate, source.runState != .postmigrate
    {
      return .transferring
    }
    yankIfStalled(&effects)
    reconcile([.source], &effects)
    if alarms.takeDue(.standing, at: now), !standingWarned {
      standingWarned = true
      effects.append(
        .warn(
          "the guest stands for \(Self.standingLimit.milliseconds / 1000) s: source has not finished, "
            + "status '\(source.status.qemuName)'"))
    }
    return .switchingOver
  }

  /// The source can never run again by itself.
  private mutating func decideAfterCompleted(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if guestIsOff {
      undoReason = Failure(.guestOff, side: .source, text: "the guest powered off on its way")
      return .undoing
    }
    if sourceRanAgain {
      undoReason = resumedElsewhere
      return .undoing
    }
    guard guestRunIsExplained(&effects) else { return .switchingOver }
    return proceedToTarget(&effects)
  }

  /// The target has, or will have, the whole guest, and the source cannot run.
  private mutating func proceedToTarget(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if options.handOver == .external, !mirrors.isEmpty {
      // The host program resumes the target as soon as it is told: the writers end before that.
      stopNBD(&effects)
      if case .failed = nbdStop {
        undoReason = nbdFailure()
        return .undoing
      }
      if target.isOutOfReach, nbdStop != .stopped {
        undoReason = Failure(
          .monitorLost, side: .target, command: "nbd-server-stop",
          text: "target's monitor did not come back; whether its NBD server stopped is unknown (I3)"
        )
        return .undoing
      }
      guard nbdStop == .stopped else {
        reconcile([.target], &effects)
        return .switchingOver
      }
    }
    return provesLoad ? .handingOver : .activating
  }

  /// Whether it is known, or cannot be learnt any more, if the guest ran (I8).
  private mutating func guestRunIsExplained(_ effects: inout [EngineEffect]) -> Bool {
    guard guestRun.isInQuestion else { return true }
    if source.isProvenDead {
      // It ended while nobody listened: it may have been paused before.
      if !source.isHeardToTheEnd { guestRun.leaveOpen() }
      return true
    }
    if !alarms.isSet(.step) { alarms.set(.step, now + Self.explanationLimit) }
    if source.isOutOfReach || alarms.takeDue(.step, at: now) {
      guestRun.leaveOpen()
      return true
    }
    reconcile([.source], &effects)
    return false
  }

  /// The source died before it said `completed`: only the target can tell whether it has all (I1).
  private mutating func decideAfterSourceDeath(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if !alarms.isSet(.step) { alarms.set(.step, now + Self.stepLimit) }
    if target.status == .completed {
      if !standingWarned {
        standingWarned = true
        effects.append(.warn("source's QEMU ended; the target has the whole guest"))
      }
      guard guestRunIsExplained(&effects) else { return .switchingOver }
      return proceedToTarget(&effects)
    }
    let targetCannotRun = target.status == .failed || target.isProvenDead || target.isOutOfReach
    let isOver = alarms.takeDue(.step, at: now)
    if targetCannotRun || guestIsOff || isOver {
      targetIsUnheard = isOver && awaited.contains(.queryMigrate, .target)
      undoReason =
        guestIsOff
        ? Failure(
          .guestOff, side: .source, text: "the guest powered off, or was shut down, on its way")
        : sourceGone
      return .undoing
    }
    reconcile([.target], &effects)
    return .switchingOver
  }

  var sourceGone: Failure {
    Failure(.sourceGone, side: .source, text: "source's QEMU ended before it had sent the guest")
  }

  /// It ended, or was told to; a monitor that is only out of reach says nothing.
  var targetIsGone: Bool { target.isProvenDead || target.hasShutDown && !target.isConnected }

  var resumedElsewhere: Failure {
    Failure(
      .cancelledElsewhere, side: .source,
      text: "somebody else resumed the guest on the source after it had been sent")
  }

  /// The target's own word, or the source's where it had to be told: the target has the whole guest.
  var targetHasLoaded: Bool {
    target.status == .completed || (provesLoad && source.status == .completed)
  }

  /// Asks for the level of everything, when news are overdue.
  mutating func reconcile(_ sides: [Side], _ effects: inout [EngineEffect]) {
    if !alarms.isSet(.poll) { alarms.set(.poll, now + Self.reconcileInterval) }
    guard alarms.takeDue(.poll, at: now) else { return }
    alarms.set(.poll, now + Self.reconcileInterval)
    for side in sides {
      poll(.queryStatus, side, &effects)
      poll(.queryMigrate, side, &effects)
    }
  }

  // MARK: - Handing over

  mutating func beginHandingOver(_ effects: inout [EngineEffect]) {
    if options.handOver != .afterResume { stopNBD(&effects) }
    if options.handOver == .external {
      alarms.set(.step, now + Self.externalOfferLimit)
      // QEMU's own figures of the migration: the host program gets no other chance to see them.
      poll(.queryMigrate, .source, &effects)
      return
    }
    handOver.offer()
    if options.handOver != .afterResume { ledger.handOverAsked(at: now) }
    effects.append(.handOverWanted)
  }

  mutating func decideHandingOver(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if sourceRanAgain {
      undoReason = resumedElsewhere
      return .undoing
    }
    switch options.handOver {
    case .afterResume: return decideHandOverAfterResume(&effects)
    case .external: return decideExternalHandOver(&effects)
    case .beforeResume, .none: break
    }
    switch handOver.state {
    case .reported(.done):
      return .activating
    case .reported(.failed):
      undoReason = Failure(
        .handOver, text: "the host program could not move ownership to the target")
      return .undoing
    case .reported(.unknown), .handedBack:
      undoReason = Failure(
        .handOver, text: "the host program does not know whether ownership moved")
      return .undoing
    case .notOffered, .offered:
      return .handingOver
    }
  }

  private mutating func decideHandOverAfterResume(
    _ effects: inout [EngineEffect]
  ) -> MigrationPhase {
    switch handOver.state {
    case .reported(.done):
      return .finishing
    case .reported:
      // The guest runs on the target: there is no way back, so it is asked for until it is done.
      if !alarms.isSet(.poll) { alarms.set(.poll, now + Self.reportInterval) }
      if alarms.takeDue(.poll, at: now) {
        handOver.offer()
        effects.append(.warn("the hand-over failed; the guest runs on the target: asking again"))
        effects.append(.handOverWanted)
      }
      return .handingOver
    case .notOffered, .offered, .handedBack:
      return .handingOver
    }
  }

  private mutating func decideExternalHandOver(
    _ effects: inout [EngineEffect]
  ) -> MigrationPhase {
    if grant.targetRuns { return .finishing }
    switch handOver.state {
    case .reported(.done):
      return .finishing
    case .reported:
      undoReason = Failure(.handOver, text: "the host program did not resume the target")
      return .undoing
    case .notOffered:
      return offerExternally(&effects)
    case .offered, .handedBack:
      break
    }
    if target.isProvenDead || targetIsMissing() {
      undoReason = Failure(
        .targetGone, side: .target, text: "target's QEMU ended before it was seen to run")
      return .undoing
    }
    watchExternally(&effects)
    return .handingOver
  }

  /// Nobody has listened at the target's monitor for long. A monitor that somebody else holds is not
  /// missing: the host program is at work.
  private mutating func targetIsMissing() -> Bool {
    guard case .unreachable = target.trouble else { return false }
    if !alarms.isSet(.step) { alarms.set(.step, now + options.reconnectDeadline) }
    return alarms.takeDue(.step, at: now)
  }

  /// Lets go of both monitors and says so: the host program needs the target's to resume it, and the
  /// source's to end it. What is left to do on the source comes before.
  private mutating func offerExternally(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if let failure = activationFailure() {
      undoReason = failure
      return .undoing
    }
    let mirrorsAreEnded = endMirrors(takenOverToo: true, &effects)
    let sourceIsDone = !source.isConnected || mirrorsAreEnded && awaited.isEmpty(.source)
    guard sourceIsDone || alarms.takeDue(.step, at: now) else { return .handingOver }
    alarms.clear(.step)
    handOver.offer()
    ledger.handOverAsked(at: now)
    grant.givenToHostProgram()
    effects.append(.letGo(of: .target))
    if source.isConnected {
      effects.append(.letGo(of: .source))
      source.isConnected = false
    }
    alarms.set(.poll, now + Self.externalInterval)
    effects.append(.handOverWanted)
    return .handingOver
  }

  /// Looks at the target now and then, and never keeps its monitor from the host program.
  private mutating func watchExternally(_ effects: inout [EngineEffect]) {
    if target.isConnected {
      if awaited.isEmpty(.target) {
        effects.append(.letGo(of: .target))
        target.isConnected = false
        alarms.set(.poll, now + Self.externalInterval)
      }
    } else if alarms.takeDue(.poll, at: now) {
      target.trouble = nil
      effects.append(.attach(.target))
    } else if target.trouble != nil, !alarms.isSet(.poll) {
      alarms.set(.poll, now + Self.externalInterval)
    }
  }

  // MARK: - Activating

  mutating func beginActivating(_ effects: inout [EngineEffect]) {
    if Grant.isAllowed(grantRequirements) { sendGrant(&effects) }
    alarms.set(.poll, now + Self.reconcileInterval)
  }

  /// Writes `cont`, behind the stop of the NBD server where the order is the fast one (I3).
  private mutating func sendGrant(_ effects: inout [EngineEffect]) {
    guard target.isConnected else { return }
    stopNBD(&effects)
    guard outsideWritersEnd(beforeNextCommand: nbdStop == .sent) else { return }
    grant.written()
    ledger.grantWritten(at: now)
    ask(.cont, .target, &effects)
  }

  private var grantRequirements: Grant.Requirements {
    Grant.Requirements(
      sourceCannotRun: source.status == .completed && !sourceRanAgain
        || (source.isProvenDead && target.status == .completed),
      targetDisarmed: targetDisarmed,
      guestRan: guestRun.verdict == .ran,
      handedOver: options.handOver != .beforeResume || handOver.isDone,
      guestIsOff: guestIsOff)
  }

  mutating func decideActivating(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if grant.isConfirmed { return phaseAfterActivation }
    if let failure = activationFailure() {
      undoReason = failure
      return .undoing
    }
    switch grant.state {
    case .never where Grant.isAllowed(grantRequirements):
      // The monitor was away when the grant was due.
      sendGrant(&effects)
    case .unknown where target.isConnected:
      // A new negotiation proves that the old connection, and a grant on it, is gone; on the same one
      // an answer proves that the grant was carried out, or refused, before it.
      switch target.runState {
      case .paused, .inmigrate: sendGrant(&effects)
      default: if holdsPausedGuest(&effects) { return phaseAfterActivation }
      }
    case .never, .accepted:
      if holdsPausedGuest(&effects) { return phaseAfterActivation }
    default:
      break
    }
    reconcile([.target], &effects)
    return .activating
  }

  private var phaseAfterActivation: MigrationPhase {
    options.handOver == .afterResume ? .handingOver : .finishing
  }

  /// The target has loaded and stands, for good: nobody but its owner may resume it (I8).
  private mutating func holdsPausedGuest(_ effects: inout [EngineEffect]) -> Bool {
    guard target.status == .completed || (provesLoad && grant.state == .never) else { return false }
    if step == 0 {
      guard target.isConnected, !awaited.contains(.queryStatus, .target) else { return false }
      // RESUME comes before `completed`; asked after it, the answer is final.
      step = 1
      target.runState = nil
      poll(.queryStatus, .target, &effects)
      return false
    }
    switch target.runState {
    case nil, .inmigrate, .unrecognised: return false
    case .running: return grant.state == .never
    default: return true
    }
  }

  private mutating func activationFailure() -> Failure? {
    if sourceRanAgain { return resumedElsewhere }
    if guestIsOff {
      return Failure(.guestOff, side: .source, text: "the guest powered off on its way")
    }
    if case .refused(let refusal) = grant.state {
      let hint =
        refusal.text.contains("lock") ? " (image still open on the source?)" : ""
      return Failure(
        .notResumed, side: .target, command: "cont", errorClass: refusal.errorClass,
        text: "target refused 'cont': \(refusal.text)\(hint)")
    }
    if let failure = nbdFailure(), !grant.mayHaveReached { return failure }
    if target.isProvenDead || target.status == .failed {
      let reason = target.errorDescription.map { ": \($0)" } ?? ""
      return Failure(
        .targetGone, side: .target,
        text: "target's QEMU could not load the guest, or ended\(reason)")
    }
    if target.isOutOfReach || grantIsUnansweredForGood() {
      return Failure(
        grant.mayHaveReached ? .outcomeUnknown : .monitorLost, side: .target,
        command: grant.mayHaveReached ? "cont" : nil,
        text: "target's monitor \(target.isOutOfReach ? "did not come back" : "does not answer"); "
          + (grant.mayHaveReached
            ? "whether 'cont' was carried out is unknown" : "it was not granted"))
    }
    return nil
  }

  /// Nothing was answered since the grant's own deadline passed.
  private mutating func grantIsUnansweredForGood() -> Bool {
    guard grant.state == .unknown, target.isConnected, target.runState == nil else {
      alarms.clear(.step)
      return false
    }
    if !alarms.isSet(.step) { alarms.set(.step, now + Self.stepLimit) }
    return alarms.takeDue(.step, at: now)
  }

  /// The target's NBD server did not stop: an outside writer may reach its disks (I3).
  private func nbdFailure() -> Failure? {
    guard case .failed(let refusal) = nbdStop else { return nil }
    return Failure(
      .storage, side: .target, command: "nbd-server-stop", errorClass: refusal.errorClass,
      text:
        "target refused 'nbd-server-stop': \(refusal.text); an outside writer may still reach its "
        + "disks (I3)")
  }

  // MARK: - Finishing

  private enum FinishingStep {
    static let leavingAlone = 0
    static let endingMirrors = 1
    static let dismissing = 2
  }

  /// How long both QEMUs are left alone once the guest runs: a command takes its QEMU's main loop, and
  /// the guest's first instructions wait for that, or for the processor that the source's end takes.
  static let firstInstructionsSpan = Span.milliseconds(20)
  /// How long the order of things may take after that.
  static let finishingLimit = Span.seconds(10)

  mutating func beginFinishing(_ effects: inout [EngineEffect]) {
    if options.handOver == .external {
      for side in Side.allCases { effects.append(.attach(side)) }
    }
    if let failure = nbdFailure() { effects.append(.warn(failure.text)) }
    alarms.set(.step, now + Self.firstInstructionsSpan)
  }

  /// The target gets its settings back; answers whether that is done, or cannot be done any more.
  private mutating func dismissTarget(_ effects: inout [EngineEffect]) -> Bool {
    guard target.isConnected else { return target.isProvenDead || target.isOutOfReach }
    putBack(.target, &effects)
    return awaited.isEmpty(.target)
  }

  /// The source ends, or gets its settings back; answers whether that is done, or cannot be done any
  /// more.
  private mutating func dismissSource(_ effects: inout [EngineEffect]) -> Bool {
    guard source.isConnected else { return source.hasEnded || source.isOutOfReach }
    guard sourceIsToQuit else {
      putBack(.source, &effects)
      return awaited.isEmpty(.source)
    }
    if !source.isDismissed {
      source.isDismissed = true
      ask(.quit, .source, &effects)
    }
    return false
  }

  /// Gives a side the settings that it had before, once.
  mutating func putBack(_ side: Side, _ effects: inout [EngineEffect]) {
    guard !self[side].isDismissed else { return }
    self[side].isDismissed = true
    let settings = side == .source ? sourceSettings : targetSettings
    for command in settings?.restoringCommands ?? [] { ask(command, side, &effects) }
  }

  /// A source is ended only when the guest is certain to be elsewhere.
  private var sourceIsToQuit: Bool {
    guard options.sourceEnd == .quit, options.handOver != .external, !sourceRanAgain else {
      return false
    }
    if grant.isConfirmed { return true }
    // The target's copy is the only other one.
    guard target.isConnected else { return false }
    if case .stood = guestRun.verdict { return true }
    return grant.state == .accepted
  }

  mutating func decideFinishing(_ effects: inout [EngineEffect]) -> MigrationPhase {
    let isOver = alarms.takeDue(.step, at: now)
    if step == FinishingStep.leavingAlone {
      guard isOver else { return .finishing }
      step = FinishingStep.endingMirrors
      alarms.set(.step, now + Self.finishingLimit)
      // QEMU's own figures of the migration, for the ledger.
      poll(.queryMigrate, .source, &effects)
      return decideFinishing(&effects)
    }
    let targetIsDone = dismissTarget(&effects)
    if step == FinishingStep.endingMirrors {
      let mayComeBack = !source.isConnected && !source.isOutOfReach && !source.isProvenDead
      if mayComeBack, !isOver { return .finishing }
      let areEnded = endMirrors(takenOverToo: true, &effects)
      guard areEnded || isOver else { return .finishing }
      if !areEnded { effects.append(.warn(leftovers)) }
      alarms.set(.step, now + Self.finishingLimit)
      step = FinishingStep.dismissing
      return decideFinishing(&effects)
    }
    let sourceIsDone = dismissSource(&effects)
    guard isOver || targetIsDone && sourceIsDone else { return .finishing }
    if isOver, sourceIsToQuit, !source.hasEnded {
      effects.append(
        .warn("source's QEMU did not take 'quit'; end it before anybody resumes it"))
    }
    conclusion = completion()
    return .ended
  }
}
