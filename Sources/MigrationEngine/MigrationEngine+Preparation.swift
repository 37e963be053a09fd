// From the first connection to `migrate`.

extension MigrationEngine {
  /// How long a step may take whose commands QEMU answers at once.
  static let stepLimit = Span.seconds(60)

  // MARK: - Connecting

  mutating func decideConnecting() -> MigrationPhase {
    if cancelRequested { return .undoing }
    if let failure = monitorFailure() {
      undoReason = failure
      return .undoing
    }
    return source.isConnected && target.isConnected ? .preflight : .connecting
  }

  /// A monitor that was given up, as a failure.
  func monitorFailure() -> Failure? {
    for side in Side.allCases {
      guard let trouble = self[side].trouble else { continue }
      switch trouble {
      case .busy:
        return Failure(
          .monitorBusy, side: side, text: "\(side)'s monitor busy: another client holds it")
      case .unreachable(let text):
        return Failure(
          phase == .connecting ? .monitorUnreachable : .monitorLost, side: side,
          text: "\(side)'s monitor cannot be reached: \(text)")
      case .protocolViolated(let text):
        return Failure(
          .protocolViolated, side: side, text: "\(side)'s monitor does not speak QMP: \(text)")
      case .stranger:
        return Failure(
          .monitorLost, side: side, text: "another QEMU answers at the \(side)'s monitor now")
      }
    }
    return nil
  }

  // MARK: - Preflight

  private enum PreflightStep {
    static let asking = 0
    static let disarming = 1
    static let confirming = 2
  }

  mutating func beginPreflight(_ effects: inout [EngineEffect]) {
    preflight = Preflight()
    targetDisarmed = false
    for side in Side.allCases {
      preflight[side].release = self[side].release
      for question in Preflight.questions(side, hasDisks: !mirrors.isEmpty) {
        ask(question, side, &effects)
      }
    }
    alarms.set(.step, now + Self.stepLimit)
  }

  mutating func decidePreflight(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if let failure = preparationFailure() {
      undoReason = failure
      return .undoing
    }
    if cancelRequested { return .undoing }
    guard source.isConnected && target.isConnected else {
      step = -1
      return .preflight
    }
    guard step >= 0 else {
      // A monitor was lost and came back: what was answered before may be out of date.
      guard awaited.isEmpty else { return .preflight }
      step = PreflightStep.asking
      beginPreflight(&effects)
      return .preflight
    }
    guard awaited.isEmpty else { return .preflight }
    switch step {
    case PreflightStep.asking:
      return judge(&effects)
    case PreflightStep.disarming:
      // Only a target that is still `inmigrate` after `stop` is known to be disarmed.
      step = PreflightStep.confirming
      ask(.queryStatus, .target, &effects)
      return .preflight
    default:
      guard target.runState == .inmigrate else {
        undoReason = Failure(
          .targetUnfit, side: .target, command: "query-status",
          text: "target left 'inmigrate' while it was being disarmed")
        return .undoing
      }
      targetDisarmed = true
      return storeIntent(&effects)
    }
  }

  /// What we are about to change is on disk before it is changed, so that `recover` can put it back.
  private mutating func storeIntent(_ effects: inout [EngineEffect]) -> MigrationPhase {
    guard options.isJournaled else { return .preparing }
    switch intent {
    case .notAsked:
      intent = .asked
      effects.append(.storeIntent)
      return .preflight
    case .asked:
      return .preflight
    case .stored:
      return .preparing
    case .failed(let text):
      undoReason = Failure(.journal, text: "the journal could not be written: \(text)")
      return .undoing
    }
  }

  private mutating func judge(_ effects: inout [EngineEffect]) -> MigrationPhase {
    guard preflight.isComplete else {
      undoReason = Failure(
        .protocolViolated, text: "a preflight question was answered without what it must contain")
      return .undoing
    }
    if let failure = preflight.verdict(options) {
      undoReason = failure
      return .undoing
    }
    for remark in preflight.remarks(
      hasOutOfBandMonitor: source.outOfBandIsReady, hasDisks: !mirrors.isEmpty)
    {
      effects.append(.warn(remark))
    }
    if options.checkOnly {
      conclusion = Conclusion(end: .completed, owner: .source, guest: guestOnSource)
      return .ended
    }
    rememberSettings()
    step = PreflightStep.disarming
    ask(.stop, .target, &effects)
    return .preflight
  }

  private mutating func rememberSettings() {
    for side in Side.allCases {
      var settings = (side == .source ? sourceSettings : targetSettings) ?? Settings()
      settings.found(
        capabilities: preflight[side].capabilities ?? [],
        parameters: preflight[side].parameters ?? [])
      if side == .source { sourceSettings = settings } else { targetSettings = settings }
    }
  }

  /// A reply that stopped the preflight or the preparation.
  mutating func commandOfStepReplied(
    _ side: Side, _ command: Command, _ reply: CommandReply, _ effects: inout [EngineEffect]
  ) {
    switch reply {
    case .answered:
      return
    case .refused(let refusal):
      switch phase {
      case .preparing where isGuessedIncoming(command):
        effects.append(.log("target listens already: \(refusal.text)"))
      case .preflight, .preparing:
        if undoReason == nil { undoReason = refused(side, command.qmpName, refusal) }
      default:
        effects.append(.warn("\(side) refused '\(command.qmpName)': \(refusal.text)"))
      }
    case .lost:
      // With the connection still there, it was the deadline.
      guard self[side].isConnected, phase == .preflight || phase == .preparing else { return }
      if undoReason == nil {
        undoReason = Failure(
          .monitorLost, side: side, command: command.qmpName,
          text: "\(side) did not answer '\(command.qmpName)' in time")
      }
    }
  }

  /// `migrate-incoming` was only sent because the target may have been deferred.
  private func isGuessedIncoming(_ command: Command) -> Bool {
    guard case .migrateIncoming = command else { return false }
    return options.incomingURI == nil
  }

  private mutating func preparationFailure() -> Failure? {
    if let undoReason { return undoReason }
    if let failure = monitorFailure() { return failure }
    for side in Side.allCases where self[side].isProvenDead {
      return Failure(
        side == .source ? .sourceGone : .targetGone, side: side, text: "\(side)'s QEMU ended")
    }
    if guestIsOff {
      return Failure(.guestOff, side: .source, text: "the guest powered off before the migration")
    }
    if alarms.takeDue(.step, at: now) {
      let side: Side = awaited.isEmpty(.source) ? .target : .source
      return Failure(.monitorLost, side: side, text: "\(side) did not answer in time")
    }
    return nil
  }

  // MARK: - Preparing

  private enum PreparingStep {
    static let setting = 0
    static let listening = 1
    static let starting = 2
  }

  /// Capabilities for a side, the caller's and those of the switchover itself.
  func wantedCapabilities(_ side: Side) -> [CapabilitySetting] {
    var wanted = options.capabilities.map { CapabilitySetting(name: $0.name, on: $0.on) }
    wanted.append(CapabilitySetting(name: "events", on: true))
    wanted.append(CapabilitySetting(name: "return-path", on: provesLoad))
    wanted.append(
      CapabilitySetting(name: "pause-before-switchover", on: side == .source && !mirrors.isEmpty))
    if side == .target {
      // A paused target then holds no image locks; from 10.0 on it is always so.
      wanted.append(CapabilitySetting(name: "late-block-activate", on: true))
    }
    return wanted
  }

  /// Whether ownership moves only after the target has proven that it loaded.
  var provesLoad: Bool { options.handOver == .beforeResume || options.handOver == .external }

  /// 16 TiB/s: QEMU's own default of 128 MiB/s would be the bottleneck.
  static let unlimitedBandwidth: Int64 = 1 << 44

  func wantedParameters(_ side: Side) -> [ParameterSetting] {
    var wanted = options.parameters.map { ParameterSetting(name: $0.name, value: $0.value) }
    guard side == .source else { return wanted }
    wanted.append(ParameterSetting(name: "max-bandwidth", value: .integer(bandwidth)))
    if let limit = options.downtimeLimitMilliseconds {
      wanted.append(ParameterSetting(name: "downtime-limit", value: .integer(limit)))
    }
    return wanted
  }

  /// What is changed on the way, not before it.
  func rememberWhatMayChange(_ settings: inout Settings) {
    settings.willRamp("downtime-limit")
    if options.sourceMonitorIsShared { settings.willRamp("max-bandwidth") }
  }

  mutating func beginPreparing(_ effects: inout [EngineEffect]) {
    var limit = options.downtimeLimitMilliseconds ?? Convergence.defaultLimitMilliseconds
    if options.downtimeLimitMilliseconds == nil,
      case .integer(let current) = sourceSettings?.value(ofParameter: "downtime-limit")
    {
      limit = current
    }
    convergence = Convergence(
      limitMilliseconds: limit, highestMilliseconds: options.highestDowntimeLimitMilliseconds)
    for side in [Side.target, .source] {
      var settings = (side == .source ? sourceSettings : targetSettings) ?? Settings()
      let capabilities = settings.changes(toReach: wantedCapabilities(side))
      let parameters = settings.changes(toReach: wantedParameters(side))
      if side == .source {
        rememberWhatMayChange(&settings)
        sourceSettings = settings
      } else {
        targetSettings = settings
      }
      if !capabilities.isEmpty { ask(.setCapabilities(capabilities), side, &effects) }
      if !parameters.isEmpty { ask(.setParameters(parameters), side, &effects) }
    }
    alarms.set(.step, now + Self.stepLimit)
  }

  mutating func decidePreparing(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if let failure = preparationFailure() {
      undoReason = failure
      return .undoing
    }
    if cancelRequested { return .undoing }
    let areConnected = source.isConnected && target.isConnected
    // What was lost with a connection is asked for again, even if it is back before the other side answers.
    if !areConnected { step = -1 }
    guard areConnected, awaited.isEmpty else { return .preparing }
    switch step {
    case -1:
      return .preflight
    case PreparingStep.setting where preflight.targetIsDeferred:
      step = PreparingStep.listening
      let uri = options.incomingURI ?? options.uriOnTarget ?? options.uri
      ask(.migrateIncoming(uri: uri), .target, &effects)
      return .preparing
    default:
      return mirrors.isEmpty ? .transferring : .mirroring
    }
  }
}
