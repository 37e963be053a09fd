// What every input adds to what is known. Nothing is decided here.

extension MigrationEngine {
  mutating func absorb(_ input: EngineInput, _ effects: inout [EngineEffect]) {
    switch input {
    case .startRequested: startRequested = true
    case .cancelRequested: if canCancel { cancelRequested = true }
    case .handOverReported(let result): handOverReported(result)
    case .handedBack: handOver.handBack()
    case .fenced(let side): self[side].isFenced = true
    case .downtimeLimitRequested(let limit): downtimeLimitRequested(limit, &effects)
    case .monitorReady(let side, let release): monitorReady(side, release, &effects)
    case .heardToTheEnd(let side): self[side].isHeardToTheEnd = true
    case .monitorLost(let side): monitorLost(side)
    case .monitorUnavailable(let side, let trouble):
      self[side].isConnected = false
      if side == .source, waitsOn(trouble, &effects) { return }
      self[side].trouble = trouble
    case .clientsWait(let side, let count):
      if side == .source { hold.clientsWait(count, at: now) }
    case .processExited(let side): self[side].hasExited = true
    case .intentStored: intent = .stored
    case .intentNotStored(let text): intent = .failed(text)
    case .outOfBandChanged(let side, let isReady): self[side].outOfBandIsReady = isReady
    case .replied(let side, let command, let reply, let roundTrip):
      replied(side, command, reply, roundTrip, &effects)
    case .eventArrived(let side, let event, let timestamp):
      self[side].heardAt = now
      if let timestamp { ledger.eventArrived(side, timestamp: timestamp, at: now) }
      if side == .source {
        sourceEvent(event, timestamp, &effects)
      } else {
        targetEvent(event, timestamp)
      }
    case .timePassed: break
    }
  }

  /// Only while RAM travels: before, the options say it; later, QEMU has decided.
  private mutating func downtimeLimitRequested(_ limit: Int64, _ effects: inout [EngineEffect]) {
    guard phase == .transferring else { return }
    owedDowntimeLimit = limit
    payDowntimeLimit(&effects)
  }

  /// A limit that was asked for while somebody else had the monitor is set after that.
  private mutating func payDowntimeLimit(_ effects: inout [EngineEffect]) {
    guard let limit = owedDowntimeLimit, phase == .transferring, source.isConnected else { return }
    owedDowntimeLimit = nil
    convergence.limitMilliseconds = limit
    setDowntimeLimit(limit, &effects)
  }

  private mutating func setDowntimeLimit(_ limit: Int64, _ effects: inout [EngineEffect]) {
    ask(
      .setParameters([ParameterSetting(name: "downtime-limit", value: .integer(limit))]), .source,
      &effects)
  }

  private mutating func handOverReported(_ result: HandOverResult) {
    guard handOver.state == .offered else { return }
    handOver.report(result)
    ledger.handOverAnswered(at: now)
  }

  private mutating func monitorLost(_ side: Side) {
    self[side].isConnected = false
    // What it said says nothing about what it does while nobody listens.
    self[side].runState = nil
    if side == .source, source.status != .completed { guestRun.lostFromSight() }
  }

  private mutating func monitorReady(
    _ side: Side, _ release: QEMURelease, _ effects: inout [EngineEffect]
  ) {
    if side == .target, grant.state != .never { grantConnectionIsUnbroken = false }
    if side == .source { hold.attached(at: now) }
    self[side].isConnected = true
    self[side].heardAt = now
    self[side].isHeardToTheEnd = false
    self[side].trouble = nil
    // Its monitor is there after all.
    if side == .target, phase == .handingOver, grant.state == .withHostProgram {
      alarms.clear(.step)
    }
    self[side].release = release
    // The preflight asks by itself.
    guard phase != .connecting, phase != .preflight else { return }
    // Events were lost while nobody was attached: ask for the level of everything once.
    poll(.queryStatus, side, &effects)
    if migrateSent { poll(.queryMigrate, side, &effects) }
    if side == .source, !mirrors.isEmpty { poll(.queryBlockJobs, side, &effects) }
    if side == .source { payDowntimeLimit(&effects) }
  }

  // MARK: - Replies

  private mutating func replied(
    _ side: Side, _ command: Command, _ reply: CommandReply, _ roundTrip: Span,
    _ effects: inout [EngineEffect]
  ) {
    awaited.remove(command, side)
    if reply != .lost { self[side].heardAt = now }
    if side == .source { noteForHold(command, reply) }
    // What a connection took with it is said again on the next one.
    if reply == .lost, phase == .finishing || phase == .undoing { self[side].isDismissed = false }
    if case .answered(let answer) = reply {
      ledger.roundTripMeasured(side, roundTrip)
      answered(side, answer, &effects)
    }
    switch (command, side) {
    case (.queryStatus, .source) where reply == .lost: guestRun.explanationLost()
    case (.cont, .target):
      grant.replied(reply)
      // Whatever it says from now on, it says after `cont`.
      if reply == .lost { target.runState = nil }
    case (.cont, .source):
      switch reply {
      case .answered: sourceResumption = .accepted
      case .refused(let refusal): sourceResumption = .refused(refusal)
      case .lost: sourceResumption = .lost
      }
    case (.migrate, .source):
      migrateReplied(reply)
    case (.migrateContinue, .source):
      if case .answered = reply {} else { continuation = .doubtful }
      commandOfStepReplied(side, command, reply, &effects)
    case (.migrateCancel, .source):
      if reply == .lost { cancelIsLost = true }
      commandOfStepReplied(side, command, reply, &effects)
    case (.quit, _):
      if case .answered = reply { self[side].quitAccepted = true }
      commandOfStepReplied(side, command, reply, &effects)
    default:
      if storageReplied(side, command, reply, &effects) { return }
      commandOfStepReplied(side, command, reply, &effects)
    }
  }

  private mutating func answered(_ side: Side, _ answer: Answer, _ effects: inout [EngineEffect]) {
    switch answer {
    case .runState(let state):
      self[side].runState = state
      if side == .source {
        guestRun.reported(state)
        if state == .running { sourceSeenRunning() }
      }
      if side == .target, hasRunOnTarget(state) { grant.targetSeenRunning() }
      if side == .source, state == .shutdown, source.status != .completed { guestIsOff = true }
    case .migration(let report):
      if side == .source { sourceReported(report, &effects) } else { targetReported(report) }
    case .blockJobs(let reports):
      if side == .source, phase != .preflight { mirrors.reported(reports, at: now) }
    case .blockNodes(let nodes):
      if side == .source { sourceNodes += nodes }
    case .blockExports(let exports):
      preflight[side].exports = exports
    default:
      break
    }
    if phase == .preflight { preflight.take(answer, from: side) }
  }

  private mutating func migrateReplied(_ reply: CommandReply) {
    switch reply {
    case .answered:
      migrateAccepted = true
    case .refused(let refusal):
      migrateSent = false
      undoReason = refused(.source, "migrate", refusal)
    case .lost:
      // Settled by `query-migrate` after the reconnect.
      break
    }
  }

  private mutating func sourceReported(
    _ report: MigrationReport, _ effects: inout [EngineEffect]
  ) {
    guard migrateSent else { return }
    if !migrateAccepted {
      // The reply to `migrate` was lost. A status that was there before proves nothing.
      guard !awaited.contains(.migrate(uri: options.uri), .source) else { return }
      guard report.status != preflight.source.migration?.status else {
        migrateSent = false
        undoReason = Failure(
          .monitorLost, side: .source, command: "migrate",
          text: "source's monitor was lost before QEMU took 'migrate'")
        return
      }
      migrateAccepted = true
    }
    source.errorDescription = report.errorDescription ?? source.errorDescription
    sourceStatus(report.status)
    // A new connection's negotiation proves that what was lost with the old one does not arrive any
    // more; on the same one QEMU answers in order. Said twice, it is refused.
    if report.status == .preSwitchover, continuation == .doubtful { continuation = .toBeRepeated }
    progress.take(report)
    progress.downtimeLimitMilliseconds = UInt64(max(convergence.limitMilliseconds, 0))
    // One report a second, however often it is asked for the sake of others.
    if phase == .transferring, let lastReport, now - lastReport < Self.leastReportInterval {
      return
    }
    lastReport = now
    effects.append(.progressed)
    guard phase == .transferring, report.status == .active,
      let remaining = report.ramRemainingBytes,
      let limit = convergence.reported(remainingBytes: remaining)
    else { return }
    setDowntimeLimit(limit, &effects)
    effects.append(.log("auto-increased downtime limit to \(limit) ms"))
  }

  private mutating func targetReported(_ report: MigrationReport) {
    guard migrateSent else { return }
    target.errorDescription = report.errorDescription ?? target.errorDescription
    targetStatus(report.status)
  }

  /// Whether the guest runs on the target, or must have: with `external` nobody may have been attached
  /// when it ran, and a guest stands for another reason than the one that it came with only if it ran.
  private func hasRunOnTarget(_ state: RunState) -> Bool {
    switch state {
    case .running: true
    case .ioError, .guestPanicked, .internalError, .watchdog, .shutdown:
      grant.state == .withHostProgram && guestRun.verdict != .stood(state)
    default: false
    }
  }

  /// After `completed` the source runs only by somebody's `cont`: ours, or somebody else's (I1).
  private mutating func sourceSeenRunning() {
    guard source.status == .completed else { return }
    switch sourceResumption {
    case .sent, .lost: sourceResumption = .accepted
    case .accepted: break
    case .notTried, .refused: sourceRanAgain = true
    }
  }

  /// A status that this version does not know is undecided and changes nothing (I7).
  private mutating func sourceStatus(_ status: MigrationStatus) {
    if case .unrecognised = status { return }
    // A final status stays: QEMU does not leave it without a new `migrate`.
    if source.status.isFinal || status == .none { return }
    source.status = status
    // A guest that runs is stopped first, and that would have been heard on this connection.
    if source.runState == .running { sourceSeenRunning() }
  }

  private mutating func targetStatus(_ status: MigrationStatus) {
    if case .unrecognised = status { return }
    if target.status.isFinal || status == .none { return }
    target.status = status
  }

  // MARK: - Events

  private mutating func sourceEvent(
    _ event: QEMUEvent, _ timestamp: Int64?, _ effects: inout [EngineEffect]
  ) {
    switch event {
    case .stop:
      source.runState = nil
      guard source.status != .completed else { return }
      if migrateSent, let timestamp { ledger.sourceStopped(timestamp: timestamp) }
      if guestRun.stopped() { poll(.queryStatus, .source, &effects) }
    case .resume:
      source.runState = .running
      sourceSeenRunning()
      guard source.status != .completed else { return }
      guestRun.resumed()
      ledger.sourceResumed()
    case .shutdown:
      source.hasShutDown = true
      if source.status != .completed { guestIsOff = true }
    case .migration(let status):
      guard migrateSent else { return }
      if case .unrecognised = status { return }
      migrateAccepted = true
      sourceStatus(status)
      if let timestamp { ledger.sourceReached(status, timestamp: timestamp) }
    case .migrationPass(let pass):
      progress.pass = max(progress.pass ?? 0, pass)
      if progress.predictedBlackoutMicroseconds == nil { effects.append(.progressed) }
    case .blockJobReady(let job): mirrors.becameReady(job)
    case .blockJobCompleted(let job, let error): mirrors.completed(job, error: error)
    case .blockJobCancelled(let job): mirrors.cancelled(job)
    case .jobStatusChanged(let job, let status): mirrors.statusChanged(job, to: status)
    case .reset, .suspend, .wakeup, .guestPanicked, .other: break
    }
  }

  private mutating func targetEvent(_ event: QEMUEvent, _ timestamp: Int64?) {
    switch event {
    case .resume:
      grant.targetSeenRunning()
      target.runState = .running
      if let timestamp, grant.mayHaveReached { ledger.targetResumed(timestamp: timestamp) }
    case .stop:
      target.runState = .paused
    case .migration(let status):
      if migrateSent { targetStatus(status) }
    case .shutdown:
      target.hasShutDown = true
    case .migrationPass, .reset, .suspend, .wakeup, .guestPanicked, .other,
      .blockJobReady, .blockJobCompleted, .blockJobCancelled, .jobStatusChanged:
      break
    }
  }

  // MARK: - Failures

  /// QEMU refused a command.
  func refused(_ side: Side, _ command: String, _ refusal: Refusal) -> Failure {
    Failure(
      .command, side: side, command: command, errorClass: refusal.errorClass,
      text: "\(side) refused '\(command)': \(refusal.text)")
  }
}
