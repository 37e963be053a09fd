// Bringing the pair back to one owner after a failure or a cancel, and saying so.

extension MigrationEngine {
  /// How long a source that failed may take to resume by itself.
  static let selfResumeLimit = Span.seconds(10)
  /// How long a target may take to end after `quit`.
  static let quitLimit = Span.seconds(10)
  /// How long the host program may take to move ownership back.
  static let handBackLimit = Span.seconds(60)
  static let undoInterval = Span.milliseconds(250)

  private enum UndoStep {
    /// Waiting for the source's own migration to reach its final status.
    static let settling = 0
    /// Ending a target that is not to run.
    static let endingTarget = 1
    /// Waiting for the source to run again.
    static let resuming = 2
    /// Ending our mirrors on a source that keeps the guest.
    static let endingMirrors = 3
    static let restoring = 4
  }

  mutating func beginUndoing(_ effects: inout [EngineEffect]) {
    alarms.clear(.transferLimit)
    alarms.clear(.standing)
    alarms.set(.poll, now + Self.undoInterval)
    if migrateSent { poll(.queryMigrate, .source, &effects) }
    // It was let go of with the hand-over.
    if options.handOver == .external, handOver.state != .notOffered {
      effects.append(.attach(.source))
    }
    // It was left to the host program, which says that it did not resume it: look before it is ended.
    if grant.state == .withHostProgram, handOver.isWithSource || sourceRanAgain {
      effects.append(.attach(.target))
    }
  }

  mutating func decideUndoing(_ effects: inout [EngineEffect]) -> MigrationPhase {
    switch step {
    case UndoStep.settling: return settleSource(&effects)
    case UndoStep.endingTarget: return endTarget(&effects)
    case UndoStep.resuming: return resumeSource(&effects)
    case UndoStep.endingMirrors: return endOurMirrors(&effects)
    default: return restore(&effects)
    }
  }

  private mutating func undoPollIsDue() -> Bool {
    if !alarms.isSet(.poll) { alarms.set(.poll, now + Self.undoInterval) }
    guard alarms.takeDue(.poll, at: now) else { return false }
    alarms.set(.poll, now + Self.undoInterval)
    return true
  }

  private mutating func advance(
    to next: Int, limit: Span, _ effects: inout [EngineEffect]
  ) -> MigrationPhase {
    step = next
    alarms.set(.step, now + limit)
    return decideUndoing(&effects)
  }

  // MARK: - The source's own migration

  private mutating func settleSource(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if source.isProvenDead {
      noteThatSourceDied()
      guard targetHasSettled(&effects) else { return .undoing }
      return advance(to: UndoStep.endingTarget, limit: Self.quitLimit, &effects)
    }
    giveUpSilentSource(&effects)
    if source.isOutOfReach {
      guard guestIsOff else { return conclude(&effects) }
      return advance(to: UndoStep.endingTarget, limit: Self.quitLimit, &effects)
    }
    if !source.isConnected {
      endTargetInAbsence(&effects)
      // Where nothing was changed there is nothing to learn from it.
      let isNeeded = migrateSent || sourceSettings?.hasSomethingToRestore == true
      return isNeeded ? .undoing : conclude(&effects)
    }
    guard migrateSent, !source.status.isFinal else {
      noteWhySourceFailed()
      // A cancel, or a deadline, that QEMU overtook: the target may have all (I4).
      if source.status == .completed, !guestIsOff,
        undoReason == nil || undoReason?.code == .deadline
      {
        undoReason = nil
        return .switchingOver
      }
      if migrateSent, awaited.contains(.queryMigrate, .source) { return .undoing }
      noteWhySourceFailed()
      return advance(to: UndoStep.endingTarget, limit: Self.quitLimit, &effects)
    }
    if !cancelSent || cancelIsLost, cancelIsSafe, !isCancelledElsewhere,
      mirrorsAreOutOfTheWay(&effects)
    {
      cancelSent = true
      cancelIsLost = false
      ask(.migrateCancel, .source, &effects)
    } else if cancelSent {
      // QEMU may not get to the cancel while it waits for a stalled connection.
      _ = endMirrors(takenOverToo: false, &effects)
    }
    if undoPollIsDue() { poll(.queryMigrate, .source, &effects) }
    return .undoing
  }

  /// Waits no longer for a source that says nothing at all: QEMU 10.0 was seen to hang for ever on its way
  /// out, when its guest powered off during a migration and a command came at that moment.
  private mutating func giveUpSilentSource(_ effects: inout [EngineEffect]) {
    guard migrateSent, source.isConnected else { return alarms.clear(.silence) }
    let limit = guestIsOff ? Self.quitLimit : Self.stepLimit
    guard alarms.takeDue(.silence, at: now) else {
      return alarms.setEarlier(.silence, now + limit, at: now)
    }
    if let heard = source.heardAt, now - heard < limit {
      return alarms.set(.silence, heard + limit)
    }
    source.isConnected = false
    source.isSilent = true
    source.trouble = .unreachable(text: "it answers nothing")
    effects.append(.warn("source's QEMU answers nothing any more; end its process"))
    effects.append(.letGo(of: .source))
  }

  /// Whether it is known, or cannot be learnt, if a target whose source died has the whole guest.
  private mutating func targetHasSettled(_ effects: inout [EngineEffect]) -> Bool {
    let mayStillLoad = migrateSent && !guestIsOff && target.isConnected && !target.isProvenDead
    guard mayStillLoad, !sourceKeptGuest, target.status != .completed, target.status != .failed
    else { return true }
    if !alarms.isSet(.step) { alarms.set(.step, now + Self.quitLimit) }
    if alarms.takeDue(.step, at: now) {
      targetIsUnheard = awaited.contains(.queryMigrate, .target)
      return true
    }
    if undoPollIsDue() { poll(.queryMigrate, .target, &effects) }
    return false
  }

  /// A cancel ends the target's QEMU, and its NBD server with it: a mirror that writes at that moment
  /// breaks, and QEMU 10.0 was seen to die of it. So mirrors end first, while their server is there, or
  /// while the guest stands.
  private mutating func mirrorsAreOutOfTheWay(_ effects: inout [EngineEffect]) -> Bool {
    guard !mirrors.isEmpty, target.isConnected || source.status == .preSwitchover else {
      return true
    }
    if !alarms.isSet(.drain) { alarms.set(.drain, now + storage.drainLimit) }
    return endMirrors(takenOverToo: false, &effects) || alarms.takeDue(.drain, at: now)
  }

  /// After the STOP of the switchover nothing cancels (I4); the status then decides by itself.
  private var cancelIsSafe: Bool {
    // After a reconnect what was known may be out of date.
    if awaited.contains(.queryStatus, .source) { return false }
    if source.status == .preSwitchover { return !isContinued }
    switch source.runState {
    // After a reconnect it is not known before it has said it.
    case nil, .finishMigrate, .postmigrate: return false
    default: return !guestRun.stopUnexplained && source.status != .device
    }
  }

  /// Whether somebody else cancels it, or may be about to: a target ends when its migration is
  /// cancelled, and may be the first to be heard of.
  private var isCancelledElsewhere: Bool {
    if source.status == .cancelling { return true }
    return undoReason?.code == .targetGone && awaited.contains(.queryMigrate, .source)
  }

  /// A target ends when its source does, and may be the first to be heard of.
  private mutating func noteThatSourceDied() {
    guard source.status != .completed, undoReason?.code == .targetGone else { return }
    undoReason = sourceGone
  }

  /// QEMU's own words, once `query-migrate` has brought them.
  private mutating func noteWhySourceFailed() {
    switch undoReason?.code {
    case nil, .migration: break
    case .targetGone where source.status == .cancelled: break
    default: return
    }
    switch source.status {
    case .failed:
      let reason = source.errorDescription ?? target.errorDescription ?? "QEMU gives no reason"
      undoReason = Failure(
        .migration, side: .source, command: "migrate", text: "migration failed: \(reason)")
    case .cancelled where !cancelSent && !cancelRequested:
      undoReason = Failure(
        .cancelledElsewhere, side: .source, text: "somebody else cancelled the migration")
    default:
      break
    }
  }

  // MARK: - The target

  /// Ends a target that may not run, where the source is to take the guest back or the guest is off.
  private mutating func endTarget(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if guestIsOff { return endTargetOfGuestThatIsOff(&effects) }
    if sourceRanAgain { return endTargetOfGuestThatRunsAgain(&effects) }
    guard source.status == .completed, !source.isProvenDead else {
      return advance(to: UndoStep.resuming, limit: Self.selfResumeLimit, &effects)
    }
    if case .refused = grant.state { return conclude(&effects) }
    // It ran there: what the source has is of the past, whatever becomes of the target.
    if grant.targetRuns, target.isProvenDead { return conclude(&effects) }
    guard handOver.isWithSource else { return awaitHandBack(&effects) }
    if target.isConnected, !grant.targetRuns {
      let isLookedAt = !awaited.contains(.queryStatus, .target)
      if isLookedAt, !awaited.contains(.quit, .target) { ask(.quit, .target, &effects) }
      return alarms.takeDue(.step, at: now) ? conclude(&effects) : .undoing
    }
    if targetIsProvenUnableToRun {
      return advance(to: UndoStep.resuming, limit: Self.selfResumeLimit, &effects)
    }
    // The proof may still come: the process's exit, a new connection, or the host program's word.
    return target.isOutOfReach || alarms.takeDue(.step, at: now) ? conclude(&effects) : .undoing
  }

  private mutating func endTargetOfGuestThatIsOff(
    _ effects: inout [EngineEffect]
  ) -> MigrationPhase {
    if target.isConnected, !grant.mayHaveReached {
      if !awaited.contains(.quit, .target) { ask(.quit, .target, &effects) }
      if !alarms.takeDue(.step, at: now) { return .undoing }
    }
    return advance(to: UndoStep.endingMirrors, limit: Self.quitLimit, &effects)
  }

  /// Somebody else runs the guest on the source: the target is ended before anybody resumes it too,
  /// unless it may run already, and the mirrors before it, so that the guest's writes do not hang.
  private mutating func endTargetOfGuestThatRunsAgain(
    _ effects: inout [EngineEffect]
  ) -> MigrationPhase {
    if alarms.takeDue(.step, at: now) || source.isOutOfReach { return conclude(&effects) }
    guard endMirrors(takenOverToo: true, &effects) else { return .undoing }
    if grant.targetRuns || grant.mayHaveReached && grant.state != .withHostProgram {
      return conclude(&effects)
    }
    guard target.isConnected else {
      let mayComeBack = grant.state == .withHostProgram && !target.isOutOfReach
      return mayComeBack && !target.quitAccepted ? .undoing : conclude(&effects)
    }
    if !awaited.contains(.queryStatus, .target), !awaited.contains(.quit, .target) {
      ask(.quit, .target, &effects)
    }
    return .undoing
  }

  private mutating func awaitHandBack(_ effects: inout [EngineEffect]) -> MigrationPhase {
    guard [.offered, .reported(.done)].contains(handOver.state) else { return conclude(&effects) }
    if !alarms.isSet(.standing) {
      alarms.set(.standing, now + Self.handBackLimit)
      effects.append(
        .warn(
          "\(undoReason?.text ?? "the target failed"); the guest stands on the source and may be resumed "
            + "there once ownership has been moved back"))
    }
    alarms.clear(.step)
    return alarms.takeDue(.standing, at: now) ? conclude(&effects) : .undoing
  }

  // MARK: - The source again

  private mutating func resumeSource(_ effects: inout [EngineEffect]) -> MigrationPhase {
    guard migrateSent, !source.isOutOfReach else {
      return advance(to: UndoStep.endingMirrors, limit: Self.quitLimit, &effects)
    }
    guard source.isConnected else { return .undoing }
    if source.status == .completed, sourceResumption == .notTried {
      // A source that runs on with a mirror to a dead target hangs at its first write.
      guard endMirrors(takenOverToo: true, &effects) else {
        return alarms.takeDue(.step, at: now) ? conclude(&effects) : .undoing
      }
    }
    switch sourceResumption {
    case .refused(let refusal):
      undoReason = Failure(
        .notResumed, side: .source, command: "cont", errorClass: refusal.errorClass,
        text:
          "\(undoReason?.text ?? "the migration failed"); then source refused 'cont': \(refusal.text)"
      )
      return conclude(&effects)
    case .sent:
      return alarms.takeDue(.step, at: now) ? conclude(&effects) : .undoing
    case .accepted, .notTried, .lost:
      break
    }
    switch source.runState {
    case .running, .paused, .suspended, .ioError, .guestPanicked, .shutdown, .internalError,
      .watchdog:
      if sourceRunStateIsFresh {
        return advance(to: UndoStep.endingMirrors, limit: Self.quitLimit, &effects)
      }
    case .postmigrate where sourceRunStateIsFresh && guestRun.verdict != .ran:
      return advance(to: UndoStep.endingMirrors, limit: Self.quitLimit, &effects)
    case .postmigrate where sourceMayBeContinued:
      sourceResumption = .sent
      ask(.cont, .source, &effects)
      // The target's load announced the guest's address from the wrong host.
      ask(.announceSelf, .source, &effects)
      return .undoing
    default:
      break
    }
    if !sourceRunStateIsFresh || undoPollIsDue() {
      sourceRunStateIsFresh = true
      source.runState = nil
      poll(.queryStatus, .source, &effects)
    }
    if alarms.takeDue(.step, at: now) {
      return advance(to: UndoStep.endingMirrors, limit: Self.quitLimit, &effects)
    }
    return .undoing
  }

  /// Only a guest that ran is run again, and only where the target is proven unable to (I1, I8).
  private var sourceMayBeContinued: Bool {
    sourceRunStateIsFresh && guestRun.verdict == .ran && sourceResumption == .notTried
      && targetIsProvenUnableToRun
  }

  /// I1: the source may run, since the target cannot.
  var targetIsProvenUnableToRun: Bool { handOver.isWithSource && targetCannotRun }

  /// No RESUME can have been missed.
  var grantWasHeardToTheEnd: Bool { grantConnectionIsUnbroken && target.isHeardToTheEnd }

  /// Whatever the cluster believes.
  var targetCannotRun: Bool {
    grant.isKnownNotToRun(
      targetDisarmed: targetDisarmed, monitorEnded: !target.isConnected,
      processExited: target.hasExited, heardToTheEnd: grantWasHeardToTheEnd,
      quitAccepted: target.quitAccepted, couldNotLoad: target.status == .failed,
      fenced: target.isFenced)
  }

  private mutating func endOurMirrors(_ effects: inout [EngineEffect]) -> MigrationPhase {
    let areEnded = endMirrors(takenOverToo: false, &effects)
    guard areEnded || alarms.takeDue(.step, at: now) else { return .undoing }
    if !areEnded { effects.append(.warn(leftovers)) }
    return advance(to: UndoStep.restoring, limit: Self.quitLimit, &effects)
  }

  // MARK: - Our settings

  private mutating func restore(_ effects: inout [EngineEffect]) -> MigrationPhase {
    for side in Side.allCases where settingsMayChange(side) { putBack(side, &effects) }
    let isAnswering = Side.allCases.contains { !awaited.isEmpty($0) && self[$0].isConnected }
    // A target that is gone is not coming back; a source that keeps the guest may.
    let isLostFromSight = !source.isConnected && !source.isOutOfReach && !source.isDismissed
    let isWaiting =
      isAnswering || isLostFromSight && sourceSettings?.hasSomethingToRestore == true
    if isWaiting, !alarms.takeDue(.step, at: now) { return .undoing }
    conclusion = failureConclusion()
    return .ended
  }

  /// QEMU must not be told anything else while its migration runs.
  private func settingsMayChange(_ side: Side) -> Bool {
    guard self[side].isConnected else { return false }
    guard migrateSent else { return true }
    return side == .source ? source.status.isFinal : targetHasLoaded || target.status != .active
  }

  /// The end; whoever can be reached has its settings back before that.
  private mutating func conclude(_ effects: inout [EngineEffect]) -> MigrationPhase {
    advance(to: UndoStep.restoring, limit: Self.quitLimit, &effects)
  }
}
