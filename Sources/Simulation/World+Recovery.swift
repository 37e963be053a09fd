import MigrationEngine
import MigrationSession

// The engine's process dies, and later somebody has the pair recovered.

extension World {
  /// Its connections end, and nobody decides any more. The host program dies with it.
  func crash() -> Bool {
    guard session != nil, sessionEndedAt == nil else { return false }
    session = nil
    scheduledDeadline = nil
    closeAllStreams()
    knowsProcess = knowsProcess.map { _ in false }
    hostDies()
    observer.crashed()
    schedule(.recovers, after: scenario.recoversAfter)
    return true
  }

  private func closeAllStreams() {
    for index in sessionStreams.compactMap({ $0 }) { closeByClient(index) }
    sessionStreams = sessionStreams.map { _ in nil }
    openAttempts = openAttempts.map { $0 + 1 }
  }

  private func hostDies() {
    if let stream = host.stream { closeByClient(stream) }
    host.stream = nil
    host.isDead = true
    // Whatever it was doing is done, or not, by now.
    if host.ownership == .unknown {
      host.ownership = random.chance(1, in: 2) ? .target : .source
    }
  }

  func recovers() {
    guard recovery == nil, sessionEndedAt == nil else { return }
    var configuration = RecoveryConfiguration()
    configuration.sourceMonitor = .unix(path: "/source.qmp")
    configuration.targetMonitor = .unix(path: "/target.qmp")
    if scenario.hasOutOfBandMonitor { configuration.sourceOutOfBand = .unix(path: "/oob.qmp") }
    configuration.record = journal.flatMap { try? JournalRecord.decode($0) }
    recoveryKnowsTarget = configuration.record?.target.process != nil
    configuration.options.cluster = clusterWord
    for side in Side.allCases {
      // The kernel of this machine knows the journal's processes; and the word of whoever fenced.
      let isGone = scenario.isLocal && configuration.record != nil && !self[side].isAlive
      let isFenced = host.fenced.contains(side) && !self[side].isAlive
      if side == .source {
        configuration.options.source.isProvenDead = isGone
        configuration.options.source.isFenced = isFenced
      } else {
        configuration.options.target.isProvenDead = isGone
        configuration.options.target.isFenced = isFenced
      }
    }
    log.note("recovery", at: now) { "journal \(configuration.record != nil)" }
    observer.recovers(knowsOwnership: configuration.options.cluster)
    recovery = RecoverySession(configuration: configuration)
    give(.requested(.start))
  }

  /// What the operator knows of the cluster.
  private var clusterWord: RecoverySituation.Cluster? {
    if scenario.options.handOver == .none { return RecoverySituation.Cluster.none }
    if !scenario.operatorKnowsCluster { return nil }
    switch host.ownership {
    case .source: return .source
    case .target: return .target
    case .unknown: return .unknown
    }
  }

  func recoveryEnded() {
    guard let conclusion = recovery?.conclusion else {
      observer.violate(.endIsTruthful, "a recovery ended without a conclusion", at: now)
      return
    }
    log.note("recovered", at: now) {
      "\(conclusion.rule): owner \(conclusion.owner), guest \(conclusion.guest): \(conclusion.text)"
    }
    recoveryRules.append(conclusion.rule)
    if !conclusion.isSettled, !hasHealed {
      // It is tried again when the world is whole.
      recovery = nil
      scheduledDeadline = nil
      closeAllStreams()
      schedule(.recovers, at: start + scenario.healsAt + .seconds(3))
      return
    }
    sessionEndedAt = now
    observer.recovered(conclusion, source: source, target: target, at: now)
  }
}
