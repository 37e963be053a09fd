// Sharing the source's monitor with others.

extension MigrationEngine {
  /// `max-bandwidth` as the caller wants it.
  var bandwidth: Int64 {
    let wanted = options.bandwidthBytesPerSecond
    return wanted == 0 ? Self.unlimitedBandwidth : Int64(clamping: wanted)
  }

  private static func bandwidthCommand(_ bytesPerSecond: Int64) -> Command {
    .setParameters([ParameterSetting(name: "max-bandwidth", value: .integer(bytesPerSecond))])
  }

  /// Does what the hold of the source's monitor wants now.
  mutating func shareSourceMonitor(_ effects: inout [EngineEffect]) {
    guard options.sourceMonitorIsShared, source.isConnected || hold.isAway else { return }
    while let act = hold.next(holdTerms, isIdle: awaited.isEmpty(.source), at: now) {
      switch act {
      case .countWaiting: effects.append(.countWaiting(.source))
      case .askProgress: poll(.queryMigrate, .source, &effects)
      case .slowDown:
        ask(Self.bandwidthCommand(MonitorHold.slowBandwidth), .source, &effects)
        poll(.queryMigrate, .source, &effects)
      case .speedUp: ask(Self.bandwidthCommand(bandwidth), .source, &effects)
      case .leave:
        source.isConnected = false
        effects.append(.letGo(of: .source))
      case .comeBack: effects.append(.attach(.source))
      case .warnThatOthersWait:
        effects.append(
          .warn("others wait for the source's monitor, which the migration needs now"))
      case .warnThatOthersStay:
        effects.append(
          .warn("another client keeps the source's monitor; the migration waits for it to leave"))
      }
    }
  }

  private var holdTerms: MonitorHold.Terms {
    switch phase {
    case .mirroring where mirrorsAreSyncing && !cancelRequested: return .free
    case .transferring
    where source.status == .active && !guestRun.stopUnexplained && !cancelRequested:
      return .transfer(transferLimits)
    default: return .keep
    }
  }

  private var transferLimits: MonitorHold.Limits {
    var limits = MonitorHold.Limits(
      downtimeLimitMilliseconds: convergence.limitMilliseconds,
      usesMultifd: options.capabilities.contains { $0.name == "multifd" && $0.on }
        || sourceSettings?.isOn(capability: "multifd") == true)
    let name = "avail-switchover-bandwidth"
    let wanted = options.parameters.last { $0.name == name }?.value
    switch wanted ?? sourceSettings?.value(ofParameter: name) {
    case .integer(let bytes): limits.switchoverBytesPerSecond = Double(bytes)
    case .unsigned(let bytes): limits.switchoverBytesPerSecond = Double(bytes)
    default: break
    }
    return limits
  }

  /// Takes what a reply says for the hold.
  mutating func noteForHold(_ command: Command, _ reply: CommandReply) {
    switch reply {
    case .answered(.migration(let report)) where report.status == .active:
      guard let remaining = report.ramRemainingBytes else { return }
      hold.progressed(
        remainingBytes: remaining,
        bytesPerSecond: report.rateMegabitsPerSecond.map { $0 * 125_000 },
        at: now)
    case .refused where command == Self.bandwidthCommand(MonitorHold.slowBandwidth):
      hold.couldNotSlowDown()
    case .lost
    where command == Self.bandwidthCommand(MonitorHold.slowBandwidth)
      || command == Self.bandwidthCommand(bandwidth):
      hold.lostSightOfPace()
    default: break
    }
  }

  /// Whoever keeps the monitor does not keep us from standing in its queue.
  mutating func waitsOn(_ trouble: MonitorTrouble, _ effects: inout [EngineEffect]) -> Bool {
    guard trouble == .busy, hold.isAway else { return false }
    // What is being undone has to end some time.
    if phase == .undoing, hold.absence(at: now) >= options.reconnectDeadline { return false }
    effects.append(.attach(.source))
    return true
  }

  /// While somebody else keeps the source's monitor, ending the target is the one way to keep the guest
  /// running: the source's migration then fails by itself. It was never granted (I1).
  mutating func endTargetInAbsence(_ effects: inout [EngineEffect]) {
    guard hold.isAwayForTooLong(at: now), grant.state == .never, target.isConnected,
      !awaited.contains(.quit, .target)
    else { return }
    ask(.quit, .target, &effects)
  }
}
